"""What a source of photographs is: samples in an order that depends on nothing but its content."""

import errno
import hashlib
import stat
from collections import defaultdict
from dataclasses import dataclass
from os import stat_result
from pathlib import Path
from typing import NamedTuple, Protocol

from alexnet.bounds import too_long
from alexnet.classes import ClassLabel
from alexnet.pixels import ImageError
from pipeline.manifest import DatasetError, SplitName

VAL_FRACTION = 0.1
"""Share of each class that is held out where nobody says otherwise."""
MAX_QUARANTINED = 0.01
"""Share of all files that may be unusable, where nobody says otherwise."""


class Sample(NamedTuple):
    key: str
    """Unique in its split, without a dot: WebDataset cuts a key at its first one."""
    label: int
    location: str
    """What the source's reader takes; names file and place for people as well."""


class Reader(Protocol):
    """Small, so that it travels to every task."""

    def read(self, location: str) -> bytes:
        """The file's bytes. Raises OSError, and ImageError where they are too many to be read."""

    def stamp(self, location: str) -> str:
        """Something cheap that changes when the bytes do. Raises OSError."""


@dataclass(frozen=True)
class Source:
    classes: tuple[ClassLabel, ...]
    """The classes in label order."""
    splits: dict[SplitName, list[Sample]]
    """Samples of train in an order mixed over the classes, those of val sorted by key."""
    reader: Reader


class Files:
    """Reads regular files; a location is a path. What else has a name in a folder is never opened:
    a named pipe waits for its writer for ever."""

    def read(self, location: str) -> bytes:
        check_size(regular_status(Path(location)).st_size)
        return Path(location).read_bytes()

    def stamp(self, location: str) -> str:
        status = regular_status(Path(location))
        return f"{status.st_size} {status.st_mtime_ns}"


def regular_status(path: Path) -> stat_result:
    """The status of a regular file, or of one that a link leads to.

    Raises OSError where it cannot be told, or where it is something else.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return status


def check_size(size: int) -> None:
    """Raises ImageError where a photograph of so many bytes is not to be read."""
    if too_much := too_long(size):
        raise ImageError("too-large", too_much)


def hold_out(samples: list[Sample], fraction: float) -> dict[SplitName, list[Sample]]:
    """The share `fraction` of each class to val, at least one image of each class in both.

    Those whose keys have the smallest SHA-256 are held out: the same on every machine and hardly
    others when images are added. Raises DatasetError.
    """
    if not 0 < fraction < 1:
        raise DatasetError(f"--val-fraction is {fraction}; it must be above 0 and below 1")
    classes: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        classes[sample.label].append(sample)
    train, val = [], []
    for members in classes.values():
        if len(members) < 2:
            raise DatasetError(
                f"{members[0].location}: this is the only image of its class; add more, "
                "since training and validation each need one"
            )
        members.sort(key=_hash)
        held = min(max(1, round(fraction * len(members))), len(members) - 1)
        val += members[:held]
        train += members[held:]
    return ordered(train, val)


def ordered(train: list[Sample], val: list[Sample]) -> dict[SplitName, list[Sample]]:
    """Training samples by the hash of their keys, validation samples by key."""
    return {"train": sorted(train, key=_hash), "val": sorted(val)}


def _hash(sample: Sample) -> bytes:
    return hashlib.sha256(sample.key.encode("utf-8", "surrogateescape")).digest()
