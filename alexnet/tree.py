"""Folders as they are on people's disks: which of their entries count."""

import errno
import os
import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from alexnet.command import UserError

SYSTEM_FOLDERS = frozenset({
    "#recycle", "#snapshot", "$recycle.bin", "@__thumb", "@eadir", "@recently-snapshot", "@recycle",
    "@sharebin", "@tmp", "__macosx", "__pycache__", "found.000", "lost+found",
    "network trash folder", "recycler", "system volume information", "temporary items",
})  # fmt: skip
"""What storage and operating systems put into folders, in lower case. Those whose names begin with
a dot are left out as all hidden ones."""

NO_PHOTOGRAPHS = frozenset({
    ".3gp", ".7z", ".aae", ".arrow", ".avi", ".bz2", ".cfg", ".cls", ".conf", ".crdownload",
    ".css", ".csv", ".db", ".db:encryptable", ".doc", ".docx", ".exe", ".gz", ".h5", ".hdf5",
    ".htm", ".html", ".ini", ".ipynb", ".js", ".json", ".jsonl", ".lnk", ".log", ".m4v", ".mat",
    ".md", ".md5", ".mkv", ".mov", ".mp3", ".mp4", ".ndjson", ".npy", ".npz", ".odt", ".parquet",
    ".part", ".pdf", ".pickle", ".pkl", ".pt", ".pth", ".py", ".rar", ".rst", ".safetensors",
    ".sh", ".sha256", ".sqlite", ".tar", ".tex", ".text", ".tfrecord", ".tgz", ".thm", ".toml",
    ".tsv", ".txt", ".url", ".wav", ".webloc", ".webm", ".xls", ".xlsx", ".xml", ".xmp", ".xz",
    ".yaml", ".yml", ".zip", ".zst",
})  # fmt: skip
"""Endings, in lower case, of what lies beside photographs and is none: captions, tables, thumbnails
of cameras and systems, archives, videos. A file with any other ending, or without, may be one."""
NO_PHOTOGRAPH_NAMES = frozenset({"copying", "icon\r", "license", "makefile", "readme"})
"""The same, of names without an ending."""


class Entries(NamedTuple):
    """What is directly in a folder, sorted by name: hidden and system entries are left out."""

    folders: list[Path]
    """Also symbolic links to folders."""
    files: list[Path]
    """All else: not only regular files, and links that lead nowhere."""


class LeftOut(Counter[str]):
    """What does not count, by what people call it."""

    def say(self, folder: Path) -> None:
        """Say on stderr what was left out below `folder`, if anything."""
        if self:
            kinds = ", ".join(f"{kind} ({count:,})" for kind, count in sorted(self.items()))
            print(f"{folder}: left out: {kinds}", file=sys.stderr, flush=True)


def list_entries(folder: Path, left_out: LeftOut | None = None) -> Entries:
    """What is in a folder; system folders are counted in `left_out`.

    Raises UserError where the folder, or what a link in it leads to, cannot be read.
    """
    found = Entries([], [])
    path = folder
    try:
        with os.scandir(folder) as scanned:
            for entry in sorted(scanned, key=lambda entry: entry.name):
                path = folder / entry.name
                if entry.name[0] == ".":
                    continue
                if not _is_folder(entry):
                    found.files.append(path)
                elif entry.name.lower() not in SYSTEM_FOLDERS:
                    found.folders.append(path)
                elif left_out is not None:
                    left_out[f"{entry.name}/"] += 1
    except OSError as error:
        raise unreadable(path, error) from None
    return found


def unreadable(path: Path, error: OSError) -> UserError:
    """What to say of a folder, or of a link, that the system does not let us read."""
    return UserError(
        f"{path}: cannot be read ({error.strerror}); make it readable, or move it elsewhere"
    )


def files_below(splits: list[list[Path]], left_out: LeftOut) -> dict[Path, list[Path]]:
    """{class folder: files at any depth, sorted} for the class folders of each split.

    Files whose names say that they are no photographs are counted in `left_out`. Each directory is
    walked once: a symbolic link inside a class folder is followed where it leads to a directory
    that is not walked without it and holds none of the class folders. Raises UserError where
    something cannot be read, or where two classes share a directory.
    """
    files: dict[Path, list[Path]] = {folder: [] for split in splits for folder in split}
    links: list[tuple[Path, Path]] = []

    def walk(start: Path, path: Path, taken: dict[Path, Path], closed: set[Path]) -> None:
        waiting = [(path, path.resolve())]
        while waiting:
            folder, real = waiting.pop()
            if real in closed:
                left_out["symbolic link to a folder that is there already"] += 1
                continue
            if (other := taken.get(real)) == start:
                continue
            if other:
                raise UserError(
                    f"{folder}: the same folder is in the class folder {other}, by a symbolic "
                    "link; remove one of them"
                )
            taken[real] = start
            entries = list_entries(folder, left_out)
            for file in entries.files:
                if kind := _no_photograph(file):
                    left_out[kind] += 1
                else:
                    files[start].append(file)
            for below in entries.folders:
                if below.is_symlink():
                    links.append((start, below))
                else:
                    waiting.append((below, real / below.name))

    walked: set[Path] = set()
    for split in splits:
        taken: dict[Path, Path] = {}
        for start in split:
            walk(start, start, taken, set())
        walked |= taken.keys()
    walked |= {above for start in files for above in _above(start)}
    linked: dict[Path, Path] = {}
    for start, link in links:  # grows while links are found behind links
        walk(start, link, linked, walked)
    return {start: sorted(found) for start, found in files.items()}


def _no_photograph(file: Path) -> str:
    """What people call a file that is no photograph by its name; empty where it may be one."""
    suffix = file.suffix.lower()
    if suffix in NO_PHOTOGRAPHS:
        return suffix
    return file.name.strip() if file.name.lower() in NO_PHOTOGRAPH_NAMES else ""


def _above(folder: Path) -> set[Path]:
    """The directories that hold the folder, and what it leads to where it is a link."""
    return {*folder.resolve().parents, *(folder.parent.resolve() / "_").parents}


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link that leads to itself leads nowhere
            return False
        raise
