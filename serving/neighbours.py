"""The training pictures whose last hidden layers are nearest to a picture's (§6.1, Figure 4).

models/NAME/STEP/similar/index.faiss    the last hidden layer of each
models/NAME/STEP/similar/labels.npy     the class of each, (P,) int64
models/NAME/STEP/similar/thumbnails*    two files, see serving.thumbnails
models/NAME/STEP/similar/about.json     of what, with the SHA-256 of all these and of the weights

Shapes: N pictures asked about, P training pictures, H hidden units, k neighbours.
"""

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

import faiss
import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from alexnet.checkpoint import About
from alexnet.command import UserError
from alexnet.fault import fault
from serving import thumbnails
from serving.thumbnails import Thumbnails

FOLDER = "similar"
INDEX, LABELS = "index.faiss", "labels.npy"
FILES = (INDEX, LABELS, thumbnails.JPEGS, thumbnails.OFFSETS)
REMEDY = "build the index again: `alexnet index MODEL DATASET`"


class AboutNeighbours(BaseModel):
    """What an index was made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    weights_sha256: str
    dataset: str
    """SHA-256 that names the dataset."""
    pictures: int
    factory: str
    """The kind of index, in FAISS's words."""
    built_at: datetime
    sha256: dict[str, str]
    """{file: its SHA-256}."""


class Neighbours:
    """An opened index. Its files are mapped: several processes share one copy in memory."""

    def __init__(self, folder: Path, about: AboutNeighbours) -> None:
        self.about = about
        self._index = mapped(folder / INDEX)
        self._label_P = np.load(folder / LABELS, mmap_mode="r")
        self._thumbnails = Thumbnails(folder)

    @classmethod
    def open(cls, model_step_directory: Path, about: About) -> Self | None:
        """The index of the model `about` in models/NAME/STEP, None where there is none.

        Raises UserError where it is damaged or was built for other weights. Reads every file once.
        """
        folder = model_step_directory / FOLDER
        path = folder / "about.json"
        if not path.exists():
            return None
        try:
            ours = AboutNeighbours.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise UserError(f"{path}: {fault(error)}; {REMEDY}") from None
        if ours.weights_sha256 != about.weights_sha256:
            raise UserError(
                f"{folder}: the index was built for the weights {ours.weights_sha256[:12]}…, but "
                f"the model's are {about.weights_sha256[:12]}…; {REMEDY}"
            )
        for name in FILES:
            _check(folder / name, ours.sha256.get(name, "nothing"))
        return cls(folder, ours)

    def __len__(self) -> int:
        return len(self._label_P)

    def nearest(self, feature_NH: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """`search` among all pictures. Several threads may ask at once."""
        return search(self._index, feature_NH, k)

    def label(self, picture: int) -> int:
        """Its class, 0 to K - 1. Raises IndexError where there is no such picture."""
        return int(self._label_P[self._known(picture)])

    def thumbnail(self, picture: int) -> bytes:
        """JPEG. Raises IndexError where there is no such picture."""
        return self._thumbnails[self._known(picture)]

    def _known(self, picture: int) -> int:
        if not 0 <= picture < len(self):
            raise IndexError(f"picture {picture}: the index has 0 to {len(self) - 1}")
        return picture


def mapped(path: Path) -> faiss.Index:
    """An index whose vectors stay in its file until they are looked at. Raises UserError."""
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError:
        raise UserError(
            f"{path}: FAISS {faiss.__version__} cannot read this file of another version; {REMEDY}"
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


def _check(path: Path, sha256: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; {REMEDY}") from None
    if found != sha256:
        raise UserError(
            f"{path}: the file is damaged: its SHA-256 is {found[:12]}…, but about.json says "
            f"{sha256[:12]}…; {REMEDY}"
        )
