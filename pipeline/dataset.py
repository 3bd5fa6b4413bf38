"""A packed dataset on disk: WebDataset shards, an index for random access, and a manifest.

manifest.json    what is in it; written last, so a directory without one is no dataset
mean.npy         (size, size, 3) float32, mean over the training images
train/00000.tar  KEY.jpg and KEY.cls of each sample; val/ likewise
train/index.npy  where each sample's JPEG lies
"""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from alexnet.bounds import read_at_most
from alexnet.fault import fault
from pipeline.manifest import (
    MAX_MANIFEST_BYTES,
    VERSION,
    DatasetError,
    Manifest,
    Mean,
    SplitManifest,
    SplitName,
)
from pipeline.split import PackedSplit, PhotographSplit, Split


class Dataset:
    """An opened dataset. Raises DatasetError if it is not one, or of another version."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        path = directory / "manifest.json"
        try:
            self._json = read_at_most(path, MAX_MANIFEST_BYTES)
        except OSError as error:
            raise DatasetError(
                f"{path}: {error.strerror}; give the folder of a packed dataset, or make one: "
                f"`alexnet pack SOURCE {'DATASET' if directory.exists() else directory}`"
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
        return self._open("train", self.manifest.train)

    @cached_property
    def val(self) -> Split:
        return self._open("val", self.manifest.val)

    def split(self, name: SplitName) -> Split:
        return self.train if name == "train" else self.val

    def train_counts(self) -> np.ndarray:
        """Training images of each class, (K,) int64."""
        return np.bincount(self.train.index["label"], minlength=len(self.manifest.classes))

    def _open(self, name: SplitName, manifest: SplitManifest) -> Split:
        kind = PhotographSplit if self.manifest.original else PackedSplit
        return kind(self.directory / name, manifest)

    @cached_property
    def mean_SS3(self) -> np.ndarray:
        """Mean over the training images, (size, size, 3) float32."""
        return np.load(self.directory / "mean.npy")

    def mean_image(self, mean: Mean) -> np.ndarray:
        """What is subtracted from a whole image, (size, size, 3) float32."""
        if mean == "pixel":
            return self.mean_SS3
        return np.full_like(self.mean_SS3, self.manifest.colour.mean)


def _refusal(path: Path, error: ValidationError) -> str:
    found = fault(error)
    if found.field == "version":
        return (
            f"{path}: the dataset has version {found.value}, but this program reads version "
            f"{VERSION}; pack the source again"
        )
    return f"{path}: {found}; pack the source again"
