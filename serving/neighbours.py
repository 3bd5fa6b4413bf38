"""The training images whose last hidden layers are nearest to an image's (§6.1, Figure 4).

Shapes: N images asked about, P training images, H hidden units, k neighbours.
"""

from pathlib import Path
from typing import Self

import faiss
import numpy as np
import torch

from alexnet import similar
from alexnet.checkpoint import About
from alexnet.command import UserError
from alexnet.similar import AboutIndex
from alexnet.thumbnails import Thumbnails


class Neighbours:
    """An opened index. Its files are mapped: several processes share one copy in memory."""

    def __init__(self, folder: Path, about: AboutIndex) -> None:
        self.about = about
        self._index = mapped(folder / similar.INDEX)
        self._label_P = np.load(folder / similar.LABELS, mmap_mode="r")
        self._thumbnails = Thumbnails(folder)

    @classmethod
    def open(cls, step: Path, about: About) -> Self | None:
        """The index of the model `about` in models/NAME/STEP, None where there is none.

        Raises UserError where it is damaged or was built for other weights. Reads every file once.
        """
        ours = similar.read_about(step, about)
        return cls(step / similar.FOLDER, ours) if ours else None

    def __len__(self) -> int:
        return len(self._label_P)

    def nearest(self, feature_NH: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """`search` among all images. Several threads may ask at once."""
        return search(self._index, feature_NH, k)

    def label(self, number: int) -> int:
        """The image's class, 0 to K - 1. Raises IndexError where there is no such image."""
        return int(self._label_P[self._known(number)])

    def thumbnail(self, number: int) -> bytes:
        """The image's thumbnail as a JPEG. Raises IndexError where there is no such image."""
        return self._thumbnails[self._known(number)]

    def _known(self, number: int) -> int:
        if not 0 <= number < len(self):
            raise IndexError(f"image {number}: the index has 0 to {len(self) - 1}")
        return number


def mapped(path: Path) -> faiss.Index:
    """An index whose vectors stay in its file until they are looked at. Raises UserError."""
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
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
