"""A folder of class folders."""

import hashlib
import os
from collections import Counter
from pathlib import Path

from alexnet.classes import ClassLabel
from pipeline.manifest import DatasetError
from pipeline.sources.source import Files, Sample, Source, hold_out, ordered


def folder_source(folder: Path, val_fraction: float, class_names: dict[str, str]) -> Source:
    """A folder of class folders, or one with train/ and val/ of class folders each.

    Without val/, `val_fraction` of each class is held out. Every file that is not hidden counts
    as an image; packing finds out. Raises DatasetError.
    """
    if (folder / "train").is_dir() and (folder / "val").is_dir():
        train, val = _class_folders(folder / "train"), _class_folders(folder / "val")
        if odd := sorted(train.keys() ^ val.keys()):
            raise DatasetError(
                f"{folder}: class {odd[0]} is in only one of train/ and val/; add it to the other, "
                "or remove it"
            )
        splits = ordered(_samples(folder / "train", train), _samples(folder / "val", val))
    else:
        train = _class_folders(folder)
        splits = hold_out(_samples(folder, train), val_fraction)
    classes = tuple(ClassLabel(id=i, name=class_names.get(i, i)) for i in train)
    return Source(classes, splits, Files())


def class_images(folder: Path) -> tuple[tuple[str, ...], list[Sample]]:
    """(Class ids in label order, every image in order of its key) of a folder of class folders.

    Raises DatasetError.
    """
    files = _class_folders(folder)
    return tuple(files), sorted(_samples(folder, files))


def _class_folders(root: Path) -> dict[str, list[Path]]:
    """{class: files at any depth} of one split, both sorted."""
    folders = [entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."]
    if len(folders) < 2:
        raise DatasetError(
            f"{root} holds {len(folders)} class folder{'s'[len(folders) == 1 :]}; "
            "a classifier needs at least two, each with its images"
        )
    return {folder.name: _files(folder) for folder in sorted(folders)}


def _files(folder: Path) -> list[Path]:
    paths = sorted(
        Path(parent, file)
        for parent, _, files in os.walk(folder, followlinks=True)
        for file in files
        if file[0] != "."
    )
    if not paths:
        raise DatasetError(f"{folder}: the class folder is empty; put images into it, or remove it")
    return paths


def _samples(root: Path, classes: dict[str, list[Path]]) -> list[Sample]:
    keys = _keys(root, [path for files in classes.values() for path in files])
    return [
        Sample(keys[path], label, str(path))
        for label, files in enumerate(classes.values())
        for path in files
    ]


def _keys(root: Path, paths: list[Path]) -> dict[Path, str]:
    """{path: its place below `root`, without dots}, and without its ending where that is enough."""
    names = {path: path.relative_to(root) for path in paths}
    short = {path: _dotless(name.with_suffix("")) for path, name in names.items()}
    full = {path: _dotless(name) for path, name in names.items()}
    short_count, full_count = Counter(short.values()), Counter(full.values())

    def key(path: Path) -> str:
        if short_count[short[path]] == 1:
            return short[path]
        if full_count[full[path]] == 1 and full[path] not in short_count:
            return full[path]
        digest = hashlib.sha256(os.fsencode(names[path])).hexdigest()
        return f"{full[path]}_{digest[:16]}"

    return {path: key(path) for path in paths}


def _dotless(name: Path) -> str:
    return name.as_posix().replace(".", "_")
