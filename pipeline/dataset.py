"""A packed dataset, on disk or below the URL of an object store: WebDataset shards, an index for
random access, and a manifest.

manifest.json    what is in it; written last, so a place without one is no dataset
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
from alexnet.store.url import Place, StoreURL, place
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
from pipeline.staging.split import StagedSplit
from pipeline.staging.stored import StoredDataset


class Dataset:
    """An opened dataset. Raises DatasetError if it is not one, or of another version."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._stored = StoredDataset(place) if isinstance(place, StoreURL) else None
        self._json = self._stored.manifest if self._stored else _read(self.folder)
        try:
            self.manifest = Manifest.model_validate_json(self._json)
        except ValidationError as error:
            raise DatasetError(_refusal(place / "manifest.json", error)) from None

    @property
    def folder(self) -> Path:
        """Where its files are on this machine, those that are: its own folder, or one in the
        cache."""
        if self._stored:
            return self._stored.folder
        assert isinstance(self.place, Path)
        return self.place

    def read(self, name: str) -> bytes:
        """A file from where the dataset lies. Raises OSError, StoreError."""
        return self._stored.store.read(name) if self._stored else (self.folder / name).read_bytes()

    def bring(self, name: str, sha256: str) -> Path:
        """A file on this machine. Raises UserError where it cannot be fetched."""
        if self._stored:
            self._stored.bring(name, sha256)
        return self.folder / name

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
        folder = self.bring(f"{name}/index.npy", manifest.index_sha256).parent
        if self.manifest.original:
            return PhotographSplit(folder, manifest)
        if self._stored:
            # All the rest, too, while there is room: shards may fill the disk.
            self.bring("train/index.npy", self.manifest.train.index_sha256)
            self.bring("val/index.npy", self.manifest.val.index_sha256)
            self.bring("mean.npy", self.manifest.mean_sha256)
            return StagedSplit(folder, manifest, self._stored, f"{name}/")
        shard = place(manifest.shards[0].file)
        if isinstance(shard, StoreURL):  # a part of another dataset (pipeline.folds)
            whole = StoredDataset(shard.parent.parent)
            return StagedSplit(folder, manifest, whole, "")
        return PackedSplit(folder, manifest)

    @cached_property
    def mean_SS3(self) -> np.ndarray:
        """Mean over the training images, (size, size, 3) float32."""
        return np.load(self.bring("mean.npy", self.manifest.mean_sha256))

    def mean_image(self, mean: Mean) -> np.ndarray:
        """What is subtracted from a whole image, (size, size, 3) float32."""
        if mean == "pixel":
            return self.mean_SS3
        return np.full_like(self.mean_SS3, self.manifest.colour.mean)


def _read(directory: Path) -> bytes:
    path = directory / "manifest.json"
    try:
        return read_at_most(path, MAX_MANIFEST_BYTES)
    except OSError as error:
        raise DatasetError(
            f"{path}: {error.strerror}; give the folder of a packed dataset, or make one: "
            f"`alexnet pack SOURCE {'DATASET' if directory.exists() else directory}`"
        ) from None


def _refusal(path: Place, error: ValidationError) -> str:
    found = fault(error)
    if found.field == "version":
        return (
            f"{path}: the dataset has version {found.value}, but this program reads version "
            f"{VERSION}; pack the source again"
        )
    return f"{path}: {found}; pack the source again"
