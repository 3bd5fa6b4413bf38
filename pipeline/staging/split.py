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


class _Asked(NamedTuple):
    """A batch of samples, and what the store was asked for: by the number of its shard, the images
    in the order of the samples."""

    sample_N: np.ndarray
    images: dict[int, Future[list[memoryview]]]
    size: int
    """Bytes of all of them."""


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
        size, most = 0, AHEAD_STEP
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
                for images in asked.images.values():
                    images.cancel()

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
        images, size = {}, 0
        for shard in np.unique(row_N["shard"]).tolist():
            if not self._has(shard):
                row_I = row_N[row_N["shard"] == shard]
                start_I, size_I = row_I["offset"], row_I["size"]
                images[shard] = self._requests.submit(
                    self._dataset.store.ranges,
                    self._objects[shard].name,
                    start_I.tolist(),
                    (start_I + size_I).tolist(),
                )
                size += int(size_I.sum())
        return _Asked(sample_N, images, size)

    def _brought(self, asked: _Asked) -> list[np.ndarray]:
        """Raises DatasetError."""
        if self._stager.error:
            raise self._stager.error from None
        if not asked.images:
            return super().jpegs(asked.sample_N)
        images = {shard: self._answer(shard, answer) for shard, answer in asked.images.items()}
        files = []
        for shard, size, start, _ in self.index[asked.sample_N].tolist():
            if shard in images:
                files.append(np.frombuffer(next(images[shard]), np.uint8))
            else:
                files.append(self._maps[shard][start : start + size])
        return files

    def _answer(self, shard: int, answer: Future[list[memoryview]]) -> Iterator[memoryview]:
        try:
            return iter(answer.result())
        except MissingError:
            raise self._dataset.gone(self._objects[shard].name) from None

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
