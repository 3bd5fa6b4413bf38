"""Where photographs come from: a folder of class folders, or drawn ones.

A source lists its samples in an order that depends on nothing but its content.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from alexnet.checkpoint import ClassLabel
from pipeline import builtin
from pipeline.dataset import DatasetError, SplitName

BUILTIN = "builtin"

Classes = dict[str, dict[str, Path]]
"""{class id: {key: file}}."""


class Sample(NamedTuple):
    key: str
    """Unique in its split: CLASS/FILE without the ending."""
    label: int
    location: str
    """What `Source.read` takes: here a path, or the number of a drawing."""


@dataclass(frozen=True)
class Source:
    classes: tuple[ClassLabel, ...]
    """In label order."""
    splits: dict[SplitName, list[Sample]]
    """Train in an order mixed over the classes, val sorted by key."""
    read: Callable[[str], bytes]
    """Location -> file bytes. Small, so that it travels to every task."""


def open_source(name: str, val_fraction: float, class_names: Path | None) -> Source:
    """`builtin`, or the folder of that name. Raises DatasetError."""
    if name == BUILTIN:
        return builtin_source()
    return folder_source(Path(name), val_fraction, read_class_names(class_names))


def builtin_source(count: int = 2000, seed: int = 2012) -> Source:
    """Drawn pictures (pipeline.builtin); one in ten of each class is held out."""
    names = builtin.CLASSES
    train: list[Sample] = []
    val: list[Sample] = []
    for number in range(count):
        label = number % len(names)
        split = train if number // len(names) % 10 else val
        split.append(Sample(f"{names[label]}/{number:05d}", label, str(number)))
    classes = tuple(ClassLabel(id=name, name=name) for name in names)
    return Source(classes, _ordered(train, val), partial(builtin.draw, seed=seed))


def folder_source(folder: Path, val_fraction: float, class_names: dict[str, str]) -> Source:
    """A folder of class folders, or one with train/ and val/ of class folders each.

    Without val/, `val_fraction` of each class is held out: the pictures whose keys have the
    smallest SHA-256, the same on every machine and hardly others when pictures are added.
    Every file that is not hidden counts as a picture; packing finds out.
    """
    if not folder.is_dir():
        raise DatasetError(
            f"{folder} is not a folder; give a folder of class folders, or the word {BUILTIN}"
        )
    if (folder / "train").is_dir() and (folder / "val").is_dir():
        train, val = _class_folders(folder / "train"), _class_folders(folder / "val")
        if odd := sorted(train.keys() ^ val.keys()):
            raise DatasetError(f"{folder}: class {odd[0]} is in only one of train/ and val/")
    else:
        train, val = _hold_out(_class_folders(folder), val_fraction)
    label = {class_id: number for number, class_id in enumerate(sorted(train))}

    def listed(split: Classes) -> list[Sample]:
        return [
            Sample(key, label[class_id], str(path))
            for class_id, files in split.items()
            for key, path in files.items()
        ]

    classes = tuple(ClassLabel(id=i, name=class_names.get(i, i)) for i in label)
    return Source(classes, _ordered(listed(train), listed(val)), _read_file)


def read_class_names(path: Path | None) -> dict[str, str]:
    """Lines `ID name`, as in ImageNet's synset_words.txt -> {ID: name}; no path, no names."""
    if path is None:
        return {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot read class names ({error})") from None
    pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
    if bad := next((number for number, pair in enumerate(pairs, 1) if len(pair) < 2), None):
        raise DatasetError(f"{path}, line {bad}: expected `ID name`, as in synset_words.txt")
    return {pair[0]: pair[1].strip() for pair in pairs}


def _class_folders(root: Path) -> Classes:
    """The class folders of one split, sorted, with their files at any depth."""
    folders = [entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."]
    if len(folders) < 2:
        raise DatasetError(
            f"{root} holds {len(folders)} class folder{'s'[len(folders) == 1 :]}; "
            "a classifier needs at least two, each with its pictures"
        )
    return {folder.name: _files(folder, root) for folder in sorted(folders)}


def _files(folder: Path, root: Path) -> dict[str, Path]:
    """{key: file}. A key is the path below `root` without its ending, unless two files differ in
    that alone; WebDataset cuts a key at its first dot, so it holds none."""
    paths = sorted(
        Path(parent, file)
        for parent, _, files in os.walk(folder, followlinks=True)
        for file in files
        if file[0] != "."
    )
    if not paths:
        raise DatasetError(f"{folder} is empty; put pictures in it or remove it")
    stems = Counter(path.with_suffix("") for path in paths)
    short = {path: path.with_suffix("") for path in paths}
    return {
        (short[path] if stems[short[path]] == 1 else path)
        .relative_to(root)
        .as_posix()
        .replace(".", "_"): path
        for path in paths
    }


def _hold_out(classes: Classes, fraction: float) -> tuple[Classes, Classes]:
    """(train, val), at least one picture of each class in both."""
    if not 0 < fraction < 1:
        raise DatasetError(f"--val-fraction is {fraction}; it must lie between 0 and 1")
    train, val = {}, {}
    for class_id, files in classes.items():
        if len(files) < 2:
            raise DatasetError(
                f"{next(iter(files.values()))} is the only picture of class {class_id}; "
                "add more: one at least is held out, one trained on"
            )
        keys = sorted(files, key=_hash)
        held = min(max(1, round(fraction * len(keys))), len(keys) - 1)
        val[class_id] = {key: files[key] for key in keys[:held]}
        train[class_id] = {key: files[key] for key in keys[held:]}
    return train, val


def _ordered(train: list[Sample], val: list[Sample]) -> dict[SplitName, list[Sample]]:
    return {"train": sorted(train, key=lambda sample: _hash(sample.key)), "val": sorted(val)}


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _read_file(location: str) -> bytes:
    return Path(location).read_bytes()
