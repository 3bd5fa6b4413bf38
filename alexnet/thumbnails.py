"""Small copies of an index's images, in two files: a server needs no dataset to show them.

thumbnails       JPEGs, one after the other
thumbnails.npy   where each begins, and where the last ends, (P + 1,) int64
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet import atomic

JPEGS, OFFSETS = "thumbnails", "thumbnails.npy"
SIDE, QUALITY = 96, 80
"""Rows and columns at most, and JPEG quality."""


class Thumbnails:
    """The thumbnails of an index, by number; mapped, so that processes share them."""

    def __init__(self, folder: Path) -> None:
        self._data = np.memmap(folder / JPEGS, mode="r")
        self._offset = np.load(folder / OFFSETS, mmap_mode="r")

    def __getitem__(self, number: int) -> bytes:
        """The thumbnail of that number as a JPEG."""
        start, end = self._offset[number : number + 2]
        return self._data[start:end].tobytes()


class ThumbnailWriter:
    """Writes thumbnails in order into `folder`. A context manager; whole once it is left."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._offset = folder, [0]
        self._file = (folder / JPEGS).open("wb")

    def __enter__(self) -> "ThumbnailWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        atomic.write_array(self._folder / OFFSETS, np.array(self._offset, np.int64))

    def add(self, jpeg: bytes) -> None:
        self._offset.append(self._offset[-1] + self._file.write(jpeg))


def shrunk(image: Image.Image) -> bytes:
    """JPEG of at most SIDE x SIDE pixels."""
    small, file = image.copy(), BytesIO()
    small.thumbnail((SIDE, SIDE))
    small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
