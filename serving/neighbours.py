"""The training images whose last hidden layers are nearest to an image's (§6.1, Figure 4).

Shapes: N images asked about, P training images, H hidden units, k neighbours.
"""

import os
import struct
import weakref
from io import BufferedReader
from pathlib import Path
from typing import Self

import faiss
import numpy as np
import torch

from alexnet import similar, thumbnails
from alexnet.checkpoint import About
from alexnet.command import UserError
from alexnet.model import hidden_units
from alexnet.similar import AboutIndex
from alexnet.thumbnails import Thumbnails

HEADER = struct.Struct("<4siqqqBi")
"""How every kind of index begins: its name, units, images, two numbers without meaning, whether it
is trained, and what distance it takes (faiss/impl/index_write.cpp)."""


class LostError(Exception):
    """A large index whose file was cut or rewritten while it was served."""


class Neighbours:
    """An opened index: a copy in memory, or where it is large its files."""

    def __init__(
        self, folder: Path, about: AboutIndex, of: About, files: dict[str, BufferedReader]
    ) -> None:
        self.about = about
        self._folder, self._files = folder, files
        weakref.finalize(self, _close, files)
        self._seen = self._status()
        path, file = folder / similar.INDEX, files[similar.INDEX]
        _check_header(path, file, hidden_units(of.network), about.pictures)
        self._index = mapped(path, file)
        self._label_P = self._numbers(similar.LABELS, about.pictures)
        if not 0 <= self._label_P.min() <= self._label_P.max() < len(of.classes):
            raise UserError(
                f"{folder / similar.LABELS}: there are labels from {self._label_P.min()} to "
                f"{self._label_P.max()}, but the model has {len(of.classes)} classes; "
                f"{similar.REMEDY}"
            )
        offset_P1 = self._numbers(thumbnails.OFFSETS, about.pictures + 1)
        try:
            self._thumbnails = Thumbnails(files[thumbnails.JPEGS], offset_P1)
        except UserError as error:
            raise UserError(f"{folder / thumbnails.OFFSETS}: {error}; {similar.REMEDY}") from None

    @classmethod
    def open(cls, step: Path, about: About) -> Self | None:
        """The index of the model `about` in models/NAME/STEP, None where there is none.

        Raises UserError where it is damaged, was built for other weights, or does not fit the
        model. Reads every file once.
        """
        found = similar.open_files(step, about)
        return cls(step / similar.FOLDER, found[0], about, found[1]) if found else None

    def __len__(self) -> int:
        return len(self._label_P)

    def nearest(self, feature_NH: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """`search` among all images. Several threads may ask at once. Raises LostError."""
        if self._status() != self._seen:
            raise LostError(f"{self._folder}: a file was changed while it served; {similar.REMEDY}")
        distance_Nk, number_Nk = search(self._index, feature_NH, k)
        # A file may hold numbers of images, and vectors, that are none.
        is_odd_Nk = (number_Nk >= len(self)) | ~np.isfinite(distance_Nk)
        return np.where(is_odd_Nk, np.inf, distance_Nk), np.where(is_odd_Nk, -1, number_Nk)

    def label(self, number: int) -> int:
        """The image's class, 0 to K - 1. Raises IndexError where there is no such image."""
        return int(self._label_P[self._known(number)])

    def thumbnail(self, number: int) -> bytes:
        """The image's thumbnail as a JPEG. Raises IndexError where there is no such image."""
        return self._thumbnails[self._known(number)]

    def _status(self) -> list[tuple[int, int]]:
        """Length of each file and when it was written: of what is mapped where it lies, bytes that
        are gone would end the process."""
        found = [os.fstat(file.fileno()) for file in self._files.values()]
        return [(status.st_size, status.st_mtime_ns) for status in found]

    def _numbers(self, name: str, count: int) -> np.ndarray:
        """(count,) int64 from an .npy file. Raises UserError."""
        path, file = self._folder / name, self._files[name]
        size = os.fstat(file.fileno()).st_size
        try:
            if size > 8 * count + 1024:
                raise ValueError(f"it has {size:,} bytes")
            number_P = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, MemoryError) as error:
            raise UserError(
                f"{path}: this is no .npy file of {count:,} numbers ({error}); {similar.REMEDY}"
            ) from None
        if number_P.dtype != np.int64 or number_P.shape != (count,):
            raise UserError(
                f"{path}: it should hold {count:,} numbers of int64, but holds {number_P.dtype} "
                f"of the shape {number_P.shape}; {similar.REMEDY}"
            )
        return number_P

    def _known(self, number: int) -> int:
        if not 0 <= number < len(self):
            raise IndexError(f"image {number}: the index has 0 to {len(self) - 1}")
        return number


def _close(files: dict[str, BufferedReader]) -> None:
    for file in files.values():
        file.close()


def _check_header(path: Path, file: BufferedReader, units: int, images: int) -> None:
    """Refuse, with UserError, what FAISS should not even look at."""
    head = file.read(HEADER.size)
    if len(head) < HEADER.size:
        raise UserError(f"{path}: the file is cut short; {similar.REMEDY}")
    _, found_units, found_images, *_ = HEADER.unpack(head)
    if (found_units, found_images) != (units, images):
        raise UserError(
            f"{path}: the index says that it has {found_images:,} vectors of {found_units:,} "
            f"units; it should have {images:,} of {units:,}; {similar.REMEDY}"
        )


def mapped(path: Path, file: BufferedReader | None = None) -> faiss.Index:
    """An index whose vectors stay in its file, or in `file`, an open copy of it, until they are
    looked at. Raises UserError."""
    place = f"/proc/self/fd/{file.fileno()}" if file else str(path)
    # No part of the file is larger than it.
    faiss.set_deserialization_vector_byte_limit(Path(place).stat().st_size)
    try:
        return faiss.read_index(place, faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError:
        raise UserError(
            f"{path}: FAISS {faiss.__version__} cannot read this file of another version; "
            f"{similar.REMEDY}"
        ) from None


def search(index: faiss.Index, feature_NH: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest, or all if there are fewer, nearest first.

    (N, H) float32 -> Euclidean distance (N, k) float32, number (N, k) int64. An index of lists can
    find fewer: -1, at an infinite distance.
    """
    faiss.omp_set_num_threads(torch.get_num_threads())  # holds for the calling thread only
    feature_NH = np.ascontiguousarray(feature_NH, np.float32)
    # Beyond this size FAISS takes |a|² + |b|² - 2ab, which loses the digits of small distances.
    rows = max(1, faiss.cvar.distance_compute_blas_threshold // feature_NH.shape[1])
    blocks = range(0, len(feature_NH), rows)
    found = [index.search(feature_NH[n : n + rows], min(k, index.ntotal)) for n in blocks]
    square_Nk, number_Nk = (np.concatenate(part) for part in zip(*found, strict=True))
    return np.where(number_Nk < 0, np.float32(np.inf), np.sqrt(square_Nk)), number_Nk
