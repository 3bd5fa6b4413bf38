"""A split of a dataset in object storage: from this node's disk what is there, the rest by ranged
reads, ahead of need."""

import io
import tarfile
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexnet.store.errors import MissingError
from alexnet.store.store import GAP_BYTES
from pipeline.manifest import SplitManifest
from pipeline.split import PackedSplit
from pipeline.staging.stager import Stager
from pipeline.staging.stored import Object, StoredDataset

REQUESTS = 256
"""Ranged reads at once: with 300 ms for each, and images of 30 KB, 25 MB/s."""
AHEAD_BYTES = 48 * 2**20
"""Asked for at once, ahead of need."""
AHEAD_STEP = 4
"""Batches by which a reader may be further ahead after each that was taken: who takes one alone
costs the store no more than some."""


class _Request(NamedTuple):
    place_I: np.ndarray
    """Which of the batch's samples it is for."""
    shard: int
    images: Future[list[memoryview]]


class _Asked(NamedTuple):
    """A batch of samples, and what the store was asked for."""

    sample_N: np.ndarray
    requests: list[_Request]
    size: int
    """Bytes of all images that were asked for."""


class StagedSplit(PackedSplit):
    """Random access to the JPEGs of a split, from whichever place has them."""

    remedy = "`alexnet verify` lists all damage; copy the dataset there again"

    def __init__(
        self, directory: Path, manifest: SplitManifest, dataset: StoredDataset, prefix: str
    ) -> None:
        """The index lies in `directory`; `prefix` and the file of a shard are its name, or else its
        URL, in `dataset`."""
        super().__init__(directory, manifest)
        self._dataset = dataset
        self._objects = [
            Object(
                f"{prefix}{shard.file}".removeprefix(f"{dataset.url}/"), shard.size, shard.sha256
            )
            for shard in manifest.shards
        ]
        self._stager = Stager(dataset, self._objects)
        weakref.finalize(self, self._stager.stop)
        self._requests = ThreadPoolExecutor(REQUESTS, "ranges")

    def jpegs(self, sample_N: np.ndarray) -> list[np.ndarray]:
        return self._brought(self._ask(sample_N))

    def read(self, parts: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        if not self._is_here():
            self._stager.begin()
        waiting: deque[_Asked] = deque()
        size, most = 0, 1
        try:
            for sample_N in parts:
                waiting.append(self._ask(sample_N))
                size += waiting[-1].size
                # Beside the batch that is taken, another is always on its way, however large.
                while waiting and (
                    not size or size - waiting[0].size > AHEAD_BYTES or len(waiting) > most
                ):
                    size -= waiting[0].size
                    most += AHEAD_STEP
                    yield self._brought(waiting.popleft())
            while waiting:
                yield self._brought(waiting.popleft())
        finally:
            for asked in waiting:
                for request in asked.requests:
                    request.images.cancel()

    def place(self, sample: int) -> str:
        shard, _, offset, _ = self.index[sample].tolist()
        return f"{self._dataset.url / self._objects[shard].name}, at byte {offset}"

    def _path(self, number: int) -> Path:
        return self._dataset.folder / self._objects[number].name

    def _opened(self, number: int) -> tarfile.TarFile:
        if self._has(number):
            return super()._opened(number)
        return tarfile.open(
            fileobj=io.BytesIO(self._dataset.store.read(self._objects[number].name))
        )

    def _ask(self, sample_N: np.ndarray) -> _Asked:
        """Ask the store for those of the images that are not on this node's disk."""
        row_N = self.index[sample_N]
        away = [shard for shard in np.unique(row_N["shard"]).tolist() if not self._has(shard)]
        if not away:
            return _Asked(sample_N, [], 0)
        place_I = np.flatnonzero(np.isin(row_N["shard"], away))
        row_I = row_N[place_I]
        order_I = np.lexsort((row_I["offset"], row_I["shard"]))
        place_I, row_I = place_I[order_I], row_I[order_I]
        start_I = row_I["offset"].astype(np.int64)
        end_I = start_I + row_I["size"]
        # One request a call, of those that lie together: so REQUESTS bounds what a store gets.
        apart = (np.diff(row_I["shard"]) != 0) | (start_I[1:] - end_I[:-1] > GAP_BYTES)
        requests = []
        for part in np.split(np.arange(len(row_I)), np.flatnonzero(apart) + 1):
            shard = int(row_I["shard"][part[0]])
            images = self._requests.submit(
                self._dataset.store.ranges,
                self._objects[shard].name,
                start_I[part].tolist(),
                end_I[part].tolist(),
            )
            requests.append(_Request(place_I[part], shard, images))
        return _Asked(sample_N, requests, int(row_I["size"].sum()))

    def _brought(self, asked: _Asked) -> list[np.ndarray]:
        """Raises DatasetError."""
        if self._stager.error:
            raise self._stager.error from None
        if not asked.requests:
            return super().jpegs(asked.sample_N)
        found: dict[int, np.ndarray] = {}
        for place_I, shard, images in asked.requests:
            try:
                for place, image in zip(place_I.tolist(), images.result(), strict=True):
                    found[place] = np.frombuffer(image, np.uint8)
            except MissingError:
                raise self._dataset.gone(self._objects[shard].name) from None
        return [
            found[place] if place in found else self._maps[shard][start : start + size]
            for place, (shard, size, start, _) in enumerate(self.index[asked.sample_N].tolist())
        ]

    def _has(self, shard: int) -> bool:
        """Whether a shard is on this node's disk; from then on it is mapped."""
        if shard in self._maps:
            return True
        if not self._path(shard).exists():
            return False
        self._maps[shard] = self._open(shard)
        return True

    def _is_here(self) -> bool:
        return all(map(self._has, range(len(self._objects))))
