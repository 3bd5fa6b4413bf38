"""A folder of class folders."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from alexnet.classes import class_label
from alexnet.tree import LeftOut, files_below, list_entries
from pipeline.manifest import DatasetError
from pipeline.sources.source import Files, Sample, Source, hold_out, ordered
from pipeline.sources.splits import alike, find_splits, say_held_out, say_left_out, split_of


def folder_source(folder: Path, val_fraction: float, class_names: dict[str, str]) -> Source:
    """A folder of class folders, or one with folders of them that are named as splits.

    Without a validation split, `val_fraction` of each class is held out; a test split is left out.
    Raises DatasetError.
    """
    roots = _roots(folder)
    if roots.val:
        classes, held_out = _class_folders(roots.train, roots.val)
        if odd := sorted(classes.keys() ^ held_out.keys()):
            raise DatasetError(
                f"{folder}: class {odd[0]} is in only one of {roots.train.name}/ and "
                f"{roots.val.name}/; add it to the other, or remove it"
            )
        splits = ordered(_samples(roots.train, classes), _samples(roots.val, held_out))
    else:
        (classes,) = _class_folders(roots.train, without=roots.without)
        splits = hold_out(_samples(roots.train, classes), val_fraction)
    return Source(tuple(class_label(i, class_names.get(i, i)) for i in classes), splits, Files())


def class_images(folder: Path) -> tuple[tuple[str, ...], list[Sample]]:
    """(Class ids in label order, every image in order of its key) of a folder of class folders,
    one or more.

    Raises DatasetError.
    """
    if not list_entries(folder).folders:
        raise DatasetError(
            f"{folder}: there is no class folder in it; put the photographs into one named as "
            "their class, and give the folder that holds it, or give the table that says their "
            "labels with --labels TABLE"
        )
    (files,) = _class_folders(folder, fewest=1)
    return tuple(files), sorted(_samples(folder, files))


class _Roots(NamedTuple):
    """The folders that hold the class folders."""

    train: Path
    val: Path | None = None
    without: tuple[Path, ...] = ()
    """What in `train` is no class folder."""


def _roots(folder: Path) -> _Roots:
    splits = find_splits(list_entries(folder).folders)
    train, val, test, others = splits
    if train and list_entries(train).folders and (val or not others):
        say_left_out((*test, *others), _evaluating(test))
        if not val:
            say_held_out(train)
        return _Roots(_innermost(train), val and _innermost(val))
    if (splits.named and len(others) < 2) or train or val:
        raise DatasetError(_two_readings(folder, splits.named, others))
    if named := alike(others):
        raise DatasetError(_two_readings(folder, named, ()))
    say_left_out(test, _evaluating(test))
    return _Roots(folder, without=test)


def _innermost(split: Path) -> Path:
    """What holds a split's class folders: training/ or, in some archives, training/training/."""
    folders = list_entries(split).folders
    if [path.name for path in folders] == [split.name] and list_entries(folders[0]).folders:
        return _innermost(folders[0])
    return split


def _evaluating(test: tuple[Path, ...]) -> str:
    if any(list_entries(folder).folders for folder in test):
        return f"; `alexnet evaluate MODEL --originals {test[0]}` measures a model on class folders"
    return ""


def _two_readings(folder: Path, named: Sequence[Path], others: Sequence[Path]) -> str:
    """What to do about folders that may be classes or splits."""
    names = " and ".join(f"{path.name}/" for path in named)
    beside = f" beside {others[0].name}/" if others else ""
    return (
        f"{folder}: {names}{beside} may mean splits or classes. If splits: put a folder for each "
        f"class into {folder / 'train'}, and into {folder / 'val'} unless a share of each class is "
        f"to be held out. If classes: move all class folders into {folder / 'train'}. If a "
        "table says the labels: give it with --labels TABLE, and in the place of this folder that "
        "of the photographs"
    )


def _class_folders(
    *roots: Path, without: tuple[Path, ...] = (), fewest: int = 2
) -> list[dict[str, list[Path]]]:
    """{class: files at any depth} of each root, both sorted."""
    found = []
    left_out = LeftOut()
    for root in roots:
        folders = [path for path in list_entries(root, left_out).folders if path not in without]
        if len(folders) < fewest:
            raise DatasetError(
                f"{root} holds {len(folders)} class folder{'s'[len(folders) == 1 :]}; "
                f"a classifier needs at least two, each with its images{_one_level_down(folders)}"
            )
        found.append(folders)
    files = files_below(found, left_out)
    left_out.say(roots[0] if len(roots) == 1 else roots[0].parent)
    for folder in files:
        if not files[folder]:
            raise DatasetError(
                f"{folder}: the class folder is empty, or holds only what is no photograph; "
                "put images into it, or remove it"
            )
    return [{folder.name: files[folder] for folder in folders} for folders in found]


def _one_level_down(folders: list[Path]) -> str:
    """What to do where the only folder seems to hold those of the classes."""
    if not folders or len(inner := list_entries(folders[0]).folders) < 2:
        return ""
    names = ", ".join(path.name for path in inner[:2])
    within = " is a split within a split, and" if split_of(folders[0].name) else ""
    return (
        f". {folders[0].name}/ in it{within} holds {names}{', …' if inner[2:] else ''}: give "
        f"{folders[0]} as the source, or move what it holds one level up"
    )


def _samples(root: Path, classes: dict[str, list[Path]]) -> list[Sample]:
    keys = unique_keys(root, [path for files in classes.values() for path in files])
    return [
        Sample(keys[path], label, str(path))
        for label, files in enumerate(classes.values())
        for path in files
    ]


def unique_keys(root: Path, paths: list[Path]) -> dict[Path, str]:
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
