"""The index of a model's training images on disk, by which similar ones are found (§6.1, Figure 4).

models/NAME/STEP/similar/index.faiss    the last hidden layer of each image, as FAISS writes it
models/NAME/STEP/similar/labels.npy     the class of each, (P,) int64
models/NAME/STEP/similar/thumbnails*    two files, see alexnet.thumbnails
models/NAME/STEP/similar/about.json     of what, with the SHA-256 of all these and of the weights

The trainer writes it (trainer.publishing.similar_index), the server searches it
(serving.neighbours). Nothing here needs FAISS.
"""

import hashlib
import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from alexnet import atomic, checkpoint, thumbnails
from alexnet.command import UserError
from alexnet.fault import fault

FOLDER = "similar"
INDEX, LABELS = "index.faiss", "labels.npy"
FILES = (INDEX, LABELS, thumbnails.JPEGS, thumbnails.OFFSETS)
COMMAND = "alexnet index MODEL --data DATASET"
REMEDY = f"build the index again: `{COMMAND}`"


class AboutIndex(BaseModel):
    """What an index was made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    weights_sha256: str
    dataset: str
    """SHA-256 that names the dataset."""
    pictures: int
    """How many images it has."""
    factory: str
    """The kind of index, in FAISS's words."""
    built_at: datetime
    sha256: dict[str, str]
    """{file: its SHA-256}."""


def write_about(folder: Path, weights_sha256: str, dataset: str, images: int, factory: str) -> None:
    """Complete an index whose other FILES are in `folder`; they are on the disk before it is."""
    about = AboutIndex(
        weights_sha256=weights_sha256,
        dataset=dataset,
        pictures=images,
        factory=factory,
        built_at=checkpoint.now(),
        sha256={name: _synced_digest(folder / name) for name in FILES},
    )
    atomic.write(folder / "about.json", about.model_dump_json(indent=2).encode())


def read_about(step: Path, about: checkpoint.About) -> AboutIndex | None:
    """What is said of the index of the model `about` in models/NAME/STEP; None where there is none.

    Raises UserError where it is damaged or was built for other weights. Reads every file once.
    """
    folder = step / FOLDER
    path = folder / "about.json"
    if not path.exists():
        return None
    try:
        ours = AboutIndex.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path}: {fault(error)}; {REMEDY}") from None
    if ours.weights_sha256 != about.weights_sha256:
        raise UserError(
            f"{folder}: the index was built for the weights {ours.weights_sha256[:12]}…, but "
            f"the model's are {about.weights_sha256[:12]}…; {REMEDY}"
        )
    for name in FILES:
        _check(folder / name, ours.sha256.get(name, "nothing"))
    return ours


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


def _synced_digest(path: Path) -> str:
    """SHA-256 of a file that has reached the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
