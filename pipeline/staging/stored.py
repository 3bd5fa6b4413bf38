"""A dataset in object storage as this node has it: a store, and a folder in the cache."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from alexnet.store.errors import MissingError
from alexnet.store.store import PART_BYTES, Store
from alexnet.store.url import StoreURL
from pipeline.manifest import DatasetError
from pipeline.staging.cache import Cache

BRIEF_S = 10.0
"""How long staging waits for a store before it looks whether it is wanted any more."""


class Object(NamedTuple):
    """A shard in a store."""

    name: str
    size: int
    """Bytes."""
    sha256: str


class StoredDataset:
    """The dataset below a URL. Raises DatasetError where there is none."""

    def __init__(self, url: StoreURL) -> None:
        self.url, self.store = url, Store(url)
        self._brief = Store(url, patience_s=BRIEF_S)
        try:
            self.manifest = self.store.read("manifest.json")
        except MissingError as error:
            raise DatasetError(
                f"{error}; a packed dataset ends with it, and `alexnet pack SOURCE {url}` makes one"
            ) from None
        self._cache = Cache(hashlib.sha256(self.manifest).hexdigest())

    @property
    def folder(self) -> Path:
        """Where this node has what it has of the dataset's files."""
        return self._cache.folder

    def bring(self, name: str, sha256: str) -> None:
        """Have a file in the folder before this returns. Raises UserError."""
        path = self.folder / name
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            try:
                self.store.fetch(name, path, sha256)
            except MissingError:
                raise self.gone(name) from None

    def stage(self, shard: Object) -> None:
        """Have a shard in the folder, unless another process is bringing it. Raises FullError,
        UnreachableError where the store is away, and DatasetError where the shard is not the one
        that was packed."""
        with self._cache.incoming(self.folder / shard.name, shard.size) as file:
            if file is None:
                return
            if (size := self._brief.size(shard.name)) is None:
                raise self.gone(shard.name)
            if size != shard.size:
                raise self._other(shard, f"it has {size:,} bytes, not {shard.size:,}")
            digest = hashlib.sha256()
            for start in range(0, size, PART_BYTES):
                end = min(size, start + PART_BYTES)
                (part,) = self._brief.ranges(shard.name, [start], [end])
                digest.update(part)
                file.write(part)
            if (sha256 := digest.hexdigest()) != shard.sha256:
                found = f"its SHA-256 is {sha256[:12]}…, not {shard.sha256[:12]}…"
                raise self._other(shard, found)

    def gone(self, name: str) -> DatasetError:
        """What to say of a file that the manifest names and the store has not."""
        return DatasetError(
            f"{self.url / name}: the dataset has lost this file; copy it there again, or pack the "
            "source anew, and run the same command again"
        )

    def _other(self, shard: Object, found: str) -> DatasetError:
        return DatasetError(
            f"{self.url / shard.name}: the shard is damaged, or is not the one that was packed "
            f"({found}); copy it there again"
        )
