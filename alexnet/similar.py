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
from contextlib import ExitStack
from datetime import datetime
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alexnet import atomic, checkpoint, regular, thumbnails
from alexnet.command import UserError
from alexnet.fault import fault
from alexnet.text import Name

FOLDER = "similar"
INDEX, LABELS = "index.faiss", "labels.npy"
FILES = (INDEX, LABELS, thumbnails.JPEGS, thumbnails.OFFSETS)
COMMAND = "alexnet index MODEL --data DATASET"
REMEDY = f"build the index again: `{COMMAND}`"
MAX_ABOUT_BYTES = 2**16
IN_MEMORY_BYTES = 2**28
"""Files up to this size are copied into a server's memory, where nobody can cut them; of a larger
one that would take too much, and it is read where it is."""
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class AboutIndex(BaseModel):
    """What an index was made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    weights_sha256: str
    dataset: Name
    """SHA-256 that names the dataset."""
    pictures: int = Field(ge=1, le=20_000_000)
    """How many images it has."""
    factory: Name
    """The kind of index, in FAISS's words."""
    built_at: datetime
    sha256: dict[Literal["index.faiss", "labels.npy", "thumbnails", "thumbnails.npy"], Digest]
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
    with ExitStack() as stack:
        found = open_files(step, about)
        if found is None:
            return None
        for file in found[1].values():
            stack.enter_context(file)
        return found[0]


def open_files(
    step: Path, about: checkpoint.About
) -> tuple[AboutIndex, dict[str, BufferedReader]] | None:
    """`read_about`, and its FILES as they were verified: up to IN_MEMORY_BYTES copies of them."""
    folder = step / FOLDER
    path = folder / "about.json"
    if not path.exists():
        return None
    try:
        ours = parsed_about(regular.read(path, MAX_ABOUT_BYTES), path)
    except OSError as error:
        raise _unreadable(error) from None
    if ours.weights_sha256 != about.weights_sha256:
        raise UserError(
            f"{folder}: the index was built for the weights {ours.weights_sha256[:12]}…, but "
            f"the model's are {about.weights_sha256[:12]}…; {REMEDY}"
        )
    sha256 = dict.fromkeys(FILES, "nothing") | {**ours.sha256}
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(_verified(folder / name, sha256[name])) for name in FILES
        }
        stack.pop_all()
    return ours, files


def parsed_about(data: bytes, path: object) -> AboutIndex:
    """What the about.json of an index at `path` says. Raises UserError."""
    try:
        about = AboutIndex.model_validate_json(data)
        regular.parsed(data)
    except ValueError as error:
        reason = fault(error) if isinstance(error, ValidationError) else error
        raise UserError(f"{path}: {reason}; {REMEDY}") from None
    return about


def _verified(path: Path, sha256: str) -> BufferedReader:
    """The file, or a copy of it, with this digest. Raises UserError."""
    try:
        file = regular.open_regular(path)
        try:
            if os.fstat(file.fileno()).st_size <= IN_MEMORY_BYTES:
                with file as original:
                    file = regular.private_copy(original)
            found = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
        except BaseException:
            file.close()
            raise
    except OSError as error:
        raise _unreadable(error) from None
    if found != sha256:
        file.close()
        raise UserError(
            f"{path}: the file is damaged: its SHA-256 is {found[:12]}…, but about.json says "
            f"{sha256[:12]}…; {REMEDY}"
        )
    return file


def _unreadable(error: OSError) -> UserError:
    return UserError(f"{error.filename}: {error.strerror}; {REMEDY}")


def _synced_digest(path: Path) -> str:
    """SHA-256 of a file that has reached the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
