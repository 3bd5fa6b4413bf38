"""A packed dataset on disk: WebDataset shards, an index for random access, and a manifest.

manifest.json    what is in it; written last, so a directory without one is no dataset
mean.npy         (size, size, 3) float32, mean over the training pictures
train/00000.tar  KEY.jpg and KEY.cls of each sample; val/ likewise
train/index.npy  where each sample's JPEG lies
"""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alexnet.classes import ClassLabel
from alexnet.command import UserError

VERSION: Literal[1] = 1
INDEX = np.dtype([("shard", "<u4"), ("size", "<u4"), ("offset", "<u8"), ("label", "<u4")])
SplitName = Literal["train", "val"]


class DatasetError(UserError):
    """A source or dataset that cannot be used; the text names file, value and remedy."""


class ShardFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    samples: int
    size: int
    """Bytes."""
    sha256: str


class SplitManifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    samples: int = Field(ge=1)
    shards: tuple[ShardFile, ...]
    index_sha256: str


class Colour(BaseModel):
    """RGB over all pixels of the training pictures, 0..255 scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, float, float]
    eigenvalues: tuple[float, float, float]
    """Of the 3x3 covariance, ascending; their roots are standard deviations in grey levels."""
    eigenvectors: tuple[tuple[float, float, float], ...]
    """Columns, in the order of the eigenvalues: row c is channel c."""


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = VERSION
    size: int
    """Rows and columns of every picture."""
    filter: str
    jpeg_quality: int
    classes: tuple[ClassLabel, ...]
    """Label order."""
    source: str
    """SHA-256 over keys, labels and bytes of the source."""
    train: SplitManifest
    val: SplitManifest
    colour: Colour
    mean_sha256: str
    quarantined: int = 0
    """Files of the source that are not in it; quarantine.jsonl says why."""
    duplicates: int = 0
    """Validation pictures that are among the training pictures; duplicates.jsonl says which."""


class Split:
    """Random access to the JPEGs of one split, by memory map."""

    def __init__(self, directory: Path, manifest: SplitManifest) -> None:
        self._files = [directory / shard.file for shard in manifest.shards]
        self._maps: dict[int, np.ndarray] = {}
        self.index = np.load(directory / "index.npy", mmap_mode="r")
        self.label_N = self.index["label"].astype(np.int64)

    def __len__(self) -> int:
        return len(self.index)

    def jpeg(self, sample: int) -> np.ndarray:
        """File bytes of one sample, (size,) uint8; a view, nothing is copied."""
        shard, size, offset, _ = self.index[sample].tolist()
        return self._map(shard)[offset : offset + size]

    def _map(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            # A plain array over the map: slicing np.memmap itself costs four times as much.
            self._maps[shard] = np.asarray(np.memmap(self._files[shard], mode="r"))
        return self._maps[shard]


class Dataset:
    """An opened dataset. Raises DatasetError if it is not one, or of another version."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = directory / "manifest.json"
        try:
            self._json = path.read_bytes()
        except OSError:
            raise DatasetError(
                f"{path} is missing: no packed dataset there; "
                f"make one: python -m pipeline pack SOURCE {directory}"
            ) from None
        try:
            self.manifest = Manifest.model_validate_json(self._json)
        except ValidationError as error:
            raise DatasetError(_refusal(path, error)) from None

    @cached_property
    def digest(self) -> str:
        """SHA-256 that names the dataset: of its manifest, which holds those of all its parts."""
        return hashlib.sha256(self._json).hexdigest()

    @cached_property
    def train(self) -> Split:
        return Split(self.directory / "train", self.manifest.train)

    @cached_property
    def val(self) -> Split:
        return Split(self.directory / "val", self.manifest.val)

    @cached_property
    def mean_SS3(self) -> np.ndarray:
        """Mean over the training pictures, (size, size, 3) float32."""
        return np.load(self.directory / "mean.npy")


def _refusal(path: Path, error: ValidationError) -> str:
    first = error.errors()[0]
    field = ".".join(map(str, first["loc"]))
    if field == "version":
        return (
            f"{path}: dataset version {first['input']}, this program reads version {VERSION}; "
            "pack the source again"
        )
    return f"{path}: {field or 'content'}: {first['msg']}; pack the source again"
