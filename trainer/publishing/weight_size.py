"""What files of weights may take: a hole in a file, a packed archive and a header may say more than
any memory holds."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet.bounds import memory_bounded
from alexnet.command import UserError

MAX_BYTES = 4_000_000_000
"""Largest file, packed and unpacked: this network for 21,841 classes has 600 million, as much again
for each value that an optimizer keeps of a weight."""


@contextmanager
def bounded(*files: Path | None) -> Iterator[None]:
    """A block that reads the files. Raises UserError where they are too large, or where reading
    them takes more than twice as much as the largest."""
    given = [path for path in files if path is not None]
    for path in given:
        if path.is_file() and (size := max(path.stat().st_size, _unpacked(path))) > MAX_BYTES:
            raise _refusal(path, f"it has {size:,} bytes")
    try:
        with memory_bounded(2 * MAX_BYTES):
            yield
    except MemoryError:
        names = " or ".join(map(str, given))
        raise _refusal(names, "what it says that it holds does not fit into the memory") from None


def _unpacked(path: Path) -> int:
    """Bytes of the members of a zip archive, as .npz and files of torch are; 0 of another file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return sum(member.file_size for member in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return 0


def _refusal(name: Path | str, reason: str) -> UserError:
    return UserError(
        f"{name}: {reason}; the limit is {MAX_BYTES:,} bytes: import the file of the AlexNet that "
        "torchvision or Caffe distributes, or weights alone"
    )
