"""What a user names on the command line -> photographs to send, a request's worth at a time."""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from alexnet.command import UserError
from alexnet.tree import LeftOut, files_below

STDIN = Path("-")
PART_BYTES = 1024
"""Of a form, at most: what stands around one file."""


class Limits(NamedTuple):
    """Of one request."""

    files: int
    size: int
    """In bytes."""


class Photograph(NamedTuple):
    path: Path
    data: bytes
    fault: str = ""
    """Why it cannot be sent."""

    @property
    def shown(self) -> str:
        """Its path in one line of UTF-8: other bytes and control characters are escaped."""
        text = os.fsencode(self.path).decode(errors="backslashreplace")
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Named(NamedTuple):
    """A place that may hold a photograph."""

    path: Path
    found: bool = False
    """Whether it was found in a folder: the user may not know what it is."""
    fault: str = ""


def find_photographs(places: Sequence[Path]) -> list[Named]:
    """Files as they are given, and those of folders in the order of their names: without what a
    dataset's class folders may hold and is no photograph, which is said on stderr."""
    found = []
    for place in places:
        if place == STDIN or not _is_folder(place):
            found.append(Named(place))
            continue
        left_out = LeftOut()
        try:
            files = files_below([[place]], left_out)[place]
        except UserError as error:
            found.append(Named(place, fault=str(error).removeprefix(f"{place}: ")))
            continue
        left_out.say(place)
        found += [Named(file, found=True) for file in files]
        if not files:
            found.append(Named(place, fault="there is no photograph in this folder"))
    return found


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # said where it is read
        return False


def batches(places: Sequence[Named], limits: Limits) -> Iterator[list[Photograph]]:
    """All of them in order, a request's worth at a time; no others are in memory."""
    batch: list[Photograph] = []
    size = 0
    for place in places:
        photograph = _read(place, limits.size)
        part = len(photograph.data) + PART_BYTES
        if batch and (len(batch) == limits.files or size + part > limits.size):
            yield batch
            batch, size = [], 0
        batch.append(photograph)
        size += part
    if batch:
        yield batch


def _read(place: Named, limit: int) -> Photograph:
    if place.fault:
        return Photograph(place.path, b"", place.fault)
    try:
        if place.found and not stat.S_ISREG(place.path.stat().st_mode):
            return Photograph(place.path, b"", "this is not a regular file")
        if place.path == STDIN:
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with place.path.open("rb") as file:
                data = file.read(limit + 1)
    except OSError as error:
        return Photograph(place.path, b"", f"{error.strerror}; check the path")
    if len(data) > limit:
        return Photograph(
            place.path, b"", f"the file is larger than the {limit:,} bytes that the server takes"
        )
    return Photograph(place.path, data)
