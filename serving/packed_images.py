"""The images of a packed dataset, as far as an index of neighbours needs them.

The format is pipeline's (pipeline/dataset.py): a manifest, an index of places, tar shards.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ValidationError

from alexnet.checkpoint import About
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from alexnet.fault import fault
from alexnet.pixels import PictureError, whole_image


class Shard(BaseModel):
    file: str
    size: int
    """Bytes."""


class Split(BaseModel):
    samples: int
    shards: tuple[Shard, ...]


class Manifest(BaseModel):
    """The fields of manifest.json that are read here."""

    version: Literal[1]
    original: bool = False
    size: int
    classes: tuple[ClassLabel, ...]
    train: Split
    val: Split


class PackedImages:
    """Random access by memory map to one split, which must be of the classes and size of `about`'s
    model. Raises UserError."""

    def __init__(
        self, directory: Path, about: About, split: Literal["train", "val"] = "train"
    ) -> None:
        path = directory / "manifest.json"
        try:
            content = path.read_bytes()
            manifest = Manifest.model_validate_json(content)
        except OSError as error:
            raise UserError(
                f"{path}: {error.strerror}; give the folder of a packed dataset, or make one: "
                f"`alexnet pack SOURCE {directory}`"
            ) from None
        except ValidationError as error:
            raise UserError(f"{path}: {fault(error)}; pack the source again") from None
        _check(path, manifest, about)
        self.digest = hashlib.sha256(content).hexdigest()
        """SHA-256 that names the dataset, as in about.json of the models trained on it."""
        self._directory, self._size = directory / split, manifest.size
        part = manifest.train if split == "train" else manifest.val
        self._shards = part.shards
        self._map = cache(self._open)
        self._index = _mapped(self._directory / "index.npy")
        if len(self._index) != part.samples:
            raise UserError(
                f"{self._directory / 'index.npy'}: the file lists {len(self._index):,} images, but "
                f"the manifest says {part.samples:,}; copy the dataset again"
            )

    def __len__(self) -> int:
        return len(self._index)

    @property
    def label_P(self) -> np.ndarray:
        """Labels of all pictures, (P,) int64."""
        return self._index["label"].astype(np.int64)

    def image(self, number: int) -> Image.Image:
        """RGB of size x size. Raises UserError where it is damaged."""
        shard, size, offset, _ = self._index[number].tolist()
        data = self._map(shard)[offset : offset + size].tobytes()
        try:
            return whole_image(data, self._size, ("JPEG",))
        except PictureError as error:
            raise UserError(
                f"{self._directory / self._shards[shard].file}, at byte {offset}: {error}; "
                "copy the dataset again"
            ) from None

    def _open(self, shard: int) -> np.ndarray:
        path, size = self._directory / self._shards[shard].file, self._shards[shard].size
        content = _mapped(path)
        if len(content) != size:
            raise UserError(
                f"{path}: the file has {len(content):,} bytes, but the manifest says {size:,}; "
                "copy it again"
            )
        return content


def _check(path: Path, manifest: Manifest, about: About) -> None:
    if manifest.original:
        raise UserError(
            f"{path}: this dataset lists photographs that were not packed; pack them: "
            "`alexnet pack SOURCE DATASET`"
        )
    if manifest.size != about.size:
        raise UserError(
            f"{path}: the images are {manifest.size} x {manifest.size} pixels, but the model "
            f"{about.name} takes {about.size} x {about.size}; pack the source again with "
            f"--size {about.size}"
        )
    here = [label.id for label in manifest.classes]
    known = [label.id for label in about.classes]
    if here != known:
        differ = [*sorted(set(here) ^ set(known)), "their order"][0]
        raise UserError(
            f"{path}: its {len(here)} classes are not the {len(known)} classes of the model "
            f"{about.name} (they differ in {differ}); give the dataset it was trained on"
        )


def _mapped(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r")
        return np.memmap(path, mode="r")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: {reason}; copy the dataset again") from None
