"""What is in a dataset, as manifest.json says."""

from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from alexnet.classes import ClassLabel
from alexnet.command import UserError

VERSION: Literal[1] = 1
MAX_MANIFEST_BYTES = 100_000_000
"""Largest manifest.json that is read; that of ILSVRC-2012 has 300,000."""
INDEX = np.dtype([("shard", "<u4"), ("size", "<u4"), ("offset", "<u8"), ("label", "<u4")])
SplitName = Literal["train", "val"]
Mean = Literal["pixel", "channel"]
"""What is subtracted: the mean image, as in 2012, or one value for each of red, green, blue."""


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
    """RGB over all pixels of the training images, 0..255 scale."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: tuple[float, float, float]
    eigenvalues: tuple[float, float, float]
    """Eigenvalues of the 3x3 covariance, ascending; their roots are standard deviations in grey
    levels."""
    eigenvectors: tuple[tuple[float, float, float], ...]
    """Eigenvectors as columns, in the order of the eigenvalues: row c is channel c."""


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = VERSION
    original: bool = False
    """Whether it holds no images, but lists photographs to be read where they are."""
    size: int
    """Rows and columns of every image."""
    filter: str
    jpeg_quality: int | None
    classes: tuple[ClassLabel, ...]
    """The classes in label order."""
    source: str
    """SHA-256 over keys, labels and bytes of the source."""
    train: SplitManifest
    val: SplitManifest
    colour: Colour
    mean_sha256: str
    quarantined: int = 0
    """Files of the source that are not in it; quarantine.jsonl says why."""
    duplicates: int = 0
    """Validation images that are among the training images; duplicates.jsonl says which."""
