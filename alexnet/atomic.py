"""Files that are found whole or not at all."""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

import numpy as np

from alexnet.command import UserError

PARTIAL = ".partial"
"""Ending of files that are being written; a killed process can leave one behind."""


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """A file to write in a block, which is found at `path` after it, in place of what is there:
    written elsewhere, synced, renamed.

    Raises UserError where the disk is full, read-only or the like; nothing of it stays behind.
    """
    partial = path.with_name(f".{path.name}.{uuid4().hex}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise UserError(
            f"{path}: the file cannot be written ({error.strerror}); no partial file is left; "
            "correct this and run the same command again"
        ) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Put `data` at `path`, as `writing` does."""
    with writing(path) as file:
        file.write(data)


def write_array(path: Path, array: np.ndarray) -> str:
    """Put `array` at `path` as an .npy file; returns the file's SHA-256."""
    file = io.BytesIO()
    np.save(file, array)
    write(path, file.getvalue())
    return hashlib.sha256(file.getvalue()).hexdigest()
