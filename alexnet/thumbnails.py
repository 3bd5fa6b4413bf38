"""Small copies of an index's images, in two files: a server needs no dataset to show them.

thumbnails       JPEGs, one after the other
thumbnails.npy   where each begins, and where the last ends, (P + 1,) int64
"""

import os
from io import BufferedReader, BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet import atomic
from alexnet.command import UserError

JPEGS, OFFSETS = "thumbnails", "thumbnails.npy"
SIDE, QUALITY = 96, 80
"""Rows and columns at most, and JPEG quality."""
MAX_BYTES = 2**16
"""The longest thumbnail; a tenth of it is much."""


class Thumbnails:
    """The thumbnails of an index, by number, read from its file when they are asked for."""

    def __init__(self, jpegs: BufferedReader, offset_P1: np.ndarray) -> None:
        """Raises UserError where the offsets do not divide the file."""
        self._jpegs, self._offset_P1 = jpegs, offset_P1
        size = os.fstat(jpegs.fileno()).st_size
        length_P = np.diff(offset_P1)
        if offset_P1[0] != 0 or offset_P1[-1] != size or not _within(length_P, 1, MAX_BYTES):
            raise UserError(f"the offsets do not divide the {size:,} bytes into thumbnails")

    def __getitem__(self, number: int) -> bytes:
        """The thumbnail of that number as a JPEG; what is left of it where the file was cut."""
        start, end = self._offset_P1[number : number + 2].tolist()
        return os.pread(self._jpegs.fileno(), end - start, start)


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


def _within(value_P: np.ndarray, least: int, most: int) -> bool:
    return bool(((least <= value_P) & (value_P <= most)).all())


def shrunk(image: Image.Image, side: int = SIDE) -> bytes:
    """JPEG of at most `side` x `side` pixels."""
    small, file = image.copy(), BytesIO()
    small.thumbnail((side, side))
    small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
