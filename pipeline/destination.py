"""Where a dataset is packed to: a folder, or a URL of object storage."""

import hashlib
import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from alexnet import atomic
from alexnet.store.errors import MissingError, StoreError, TakenError
from alexnet.store.lease import held
from alexnet.store.store import Store
from alexnet.store.url import Place, StoreURL
from pipeline.lock import alone
from pipeline.manifest import DatasetError, ShardFile

MANIFEST = "manifest.json"
RECORDS = ".pack"
"""Directory of the records inside a dataset that is being packed."""
LOCK = f"{RECORDS}/lock"


class Destination(Protocol):
    """The files of a dataset that is being packed, by names such as train/00000.tar; each is found
    whole or not at all."""

    def read(self, name: str) -> bytes:
        """Raises OSError, also where there is no such file."""

    def has(self, name: str) -> bool: ...

    def holds(self, name: str, shard: ShardFile) -> bool:
        """Whether a shard is there, as it was packed."""

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place of what is there. Raises UserError."""

    def alone(self, busy: str) -> AbstractContextManager[None]:
        """Nobody else packs there for the length of a block, else UserError with the text
        `busy`."""

    def end(self, manifest: bytes) -> None:
        """Write the manifest, so that the dataset is there. Within such a block."""

    def sweep(self, shards: set[str]) -> None:
        """Remove all shards but these, and what killed processes were writing."""

    def forget(self) -> None:
        """Remove the records."""


def open_destination(place: Place) -> Destination:
    return StoredFolder(place) if isinstance(place, StoreURL) else Folder(place)


def array_bytes(array: np.ndarray) -> bytes:
    """An .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class Folder:
    """A folder on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> bytes:
        return (self._folder / name).read_bytes()

    def has(self, name: str) -> bool:
        return (self._folder / name).exists()

    def holds(self, name: str, shard: ShardFile) -> bool:
        return hashlib.sha256(self.read(name)).hexdigest() == shard.sha256

    def write(self, name: str, data: bytes) -> None:
        atomic.write(self._folder / name, data)

    def alone(self, busy: str) -> AbstractContextManager[None]:
        for name in ("train", "val", RECORDS):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        return alone(self._folder / LOCK, busy)

    def end(self, manifest: bytes) -> None:
        self.write(MANIFEST, manifest)

    def sweep(self, shards: set[str]) -> None:
        ours = {self._folder / name for name in shards}
        partial = self._folder.rglob(f".*{atomic.PARTIAL}")
        for path in (*self._folder.glob("*/*.tar"), *partial):
            if path not in ours:
                path.unlink(missing_ok=True)

    def forget(self) -> None:
        shutil.rmtree(self._folder / RECORDS, ignore_errors=True)


class StoredFolder:
    """The objects below a URL."""

    def __init__(self, url: StoreURL) -> None:
        self._store = Store(url)

    def read(self, name: str) -> bytes:
        try:
            return self._store.read(name)
        except MissingError as error:
            raise FileNotFoundError(str(error)) from None

    def has(self, name: str) -> bool:
        return self._store.size(name) is not None

    def holds(self, name: str, shard: ShardFile) -> bool:
        """By its size: an object is there as a whole, and reading it all would take as long as to
        pack it."""
        return self._store.size(name) == shard.size

    def write(self, name: str, data: bytes) -> None:
        self._store.write(name, data)

    @contextmanager
    def alone(self, busy: str) -> Iterator[None]:
        with held(self._store, LOCK, busy, _say) as self._lease:
            yield

    def end(self, manifest: bytes) -> None:
        if self._lease.lost:
            raise StoreError(
                f"{self._lease.lost}, which packs there now; let it end, or run the same command "
                "again once it has"
            )
        try:
            self._store.create(MANIFEST, manifest)
        except TakenError as error:
            raise DatasetError(
                f"{error}: another dataset was packed there; name another URL"
            ) from None

    def sweep(self, shards: set[str]) -> None:
        there = [name for split in ("train/", "val/") for name in self._store.names(split)]
        self._store.remove([name for name in there if name.endswith(".tar") and name not in shards])

    def forget(self) -> None:
        self._store.remove(self._store.names(f"{RECORDS}/"))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
