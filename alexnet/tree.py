"""Folders as they are on people's disks: which of their entries count."""

import errno
import os
import sys
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path, PurePath
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

THERE_ALREADY = "symbolic link to a folder that is there already"


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


class Names(NamedTuple):
    """`Entries` by name: a tenth of the memory, where there are millions."""

    folders: list[str]
    files: list[str]


def list_names(folder: Path, left_out: LeftOut | None = None) -> Names:
    """What is in a folder; system folders are counted in `left_out`.

    Raises UserError where the folder, or what a link in it leads to, cannot be read.
    """
    found = Names([], [])
    path = folder
    try:
        with os.scandir(folder) as scanned:
            for entry in scanned:
                if entry.name[0] == ".":
                    continue
                path = Path(entry.path)
                if not _is_folder(entry):
                    found.files.append(entry.name)
                elif entry.name.lower() not in SYSTEM_FOLDERS:
                    found.folders.append(entry.name)
                elif left_out is not None:
                    left_out[f"{entry.name}/"] += 1
    except OSError as error:
        raise unreadable(path, error) from None
    found.folders.sort()
    found.files.sort()
    return found


def list_entries(folder: Path, left_out: LeftOut | None = None) -> Entries:
    """`list_names` as paths."""
    folders, files = list_names(folder, left_out)
    return Entries([folder / name for name in folders], [folder / name for name in files])


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
                left_out[THERE_ALREADY] += 1
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
                if kind := no_photograph(file.name):
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


def walk(root: Path, left_out: LeftOut) -> Iterator[tuple[Path, list[str]]]:
    """(Folder, names of its files) of `root` and of all below it: names sorted, a folder before
    those in it, and what symbolic links lead to last.

    Each directory is walked once, and none that holds `root`. One folder's names are in memory at a
    time. Raises UserError where something cannot be read.
    """
    waiting, links = [root], deque[Path]()
    walked = {_identity(above) for above in root.resolve().parents}
    while waiting or links:
        folder = waiting.pop() if waiting else links.popleft()
        identity = _identity(folder)
        if identity in walked:
            left_out[THERE_ALREADY] += 1
            continue
        walked.add(identity)
        names = list_names(folder, left_out)
        yield folder, names.files
        for name in reversed(names.folders):
            below = folder / name
            (links if below.is_symlink() else waiting).append(below)


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise unreadable(folder, error) from None
    return status.st_dev, status.st_ino


def no_photograph(name: str) -> str:
    """What people call a file that is no photograph by its name; empty where it may be one."""
    suffix = PurePath(name).suffix.lower()
    if suffix in NO_PHOTOGRAPHS:
        return suffix
    return name.strip() if name.lower() in NO_PHOTOGRAPH_NAMES else ""


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
