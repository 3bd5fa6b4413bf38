"""Which samples of a split a worker reads, in which order, and what is done with each."""

from collections.abc import Iterator
from itertools import tee
from typing import Protocol

import numpy as np
from torch import Tensor

from pipeline.dataset import Dataset
from pipeline.feed import Crops, Feed, Images, TrainFeed, WholeFeed
from pipeline.finish import Finisher
from pipeline.order import (
    Cropping,
    Ordering,
    Shard,
    balanced_order,
    epoch_order,
    replacement,
    share,
    variation,
)
from pipeline.split import Split


class Reading(Protocol[Feed]):
    """What a worker reads of a split, and how."""

    split: Split

    def feeds(self) -> Iterator[Feed]:
        """What the graph is fed, batch by batch."""

    def substitute(self, row: Feed, attempt: int) -> Feed:
        """What stands in for a feed of a single, damaged sample, at the given attempt."""

    def images(self, outputs: list[Tensor]) -> Images:
        """What the graph's outputs are, finished."""


class Epoch:
    """The training samples of one epoch, in its order, with their draws."""

    def __init__(
        self,
        dataset: Dataset,
        shard: Shard,
        *,
        seed: int,
        epoch: int,
        start: int,
        batch: int,
        balanced: bool,
        ordering: Ordering,
        margin: int,
        cropping: Cropping,
        mirrors: bool,
        mean_3: np.ndarray,
        noise: bool,
        finish: Finisher | None,
    ) -> None:
        self.split = dataset.train
        self._shard, self._seed, self._epoch = shard, seed, epoch
        self._start, self._batch, self._margin = start, batch, margin
        self._balanced, self._ordering = balanced, ordering
        self._cropping, self._mirrors = cropping, mirrors
        self._mean_3, self._finish = mean_3, finish
        colour = dataset.manifest.colour
        # Columns of deviations along the principal components, in grey levels (convdata_jpeg.py):
        # the root of the eigenvalue, which the paper's text leaves out.
        self._component_33 = np.array(colour.eigenvectors) * np.sqrt(colour.eigenvalues) * noise

    def feeds(self) -> Iterator[TrainFeed]:
        samples = len(self.split)
        if self._balanced:
            label_N = self.split.label(np.arange(samples))
            order_N = balanced_order(label_N, self._seed, self._epoch)
        else:
            order_N = epoch_order(samples, self._seed, self._epoch, self._ordering)
        shares = _shares(samples, self._start, self._batch, self._shard)
        parts, ahead = tee((first, *_padded(order_N[first:stop], n)) for first, stop, n in shares)
        files = self.split.read(sample_N for _, sample_N, _ in ahead)
        for (first, sample_N, real_N), file in zip(parts, files, strict=True):
            rows = len(sample_N)
            vary = variation(
                first, first + rows, self._seed, self._epoch,
                self._margin, self._cropping, self._mirrors,
            )  # fmt: skip
            # The colour is added by subtracting its negative: the graph takes a mean per sample.
            offset_N3 = vary.alpha_N3 @ self._component_33.T
            yield TrainFeed(
                file=file,
                crop_N2=(vary.crop_N2 / max(self._margin, 1)).astype(np.float32),
                mirror_N=vary.mirror_N,
                mean_N3=(self._mean_3 - offset_N3).astype(np.float32),
                label_N=self.split.label(sample_N),
                real_N=real_N,
                sample_N=sample_N,
            )

    def substitute(self, row: TrainFeed, attempt: int) -> TrainFeed:
        """Another sample, with the draws of the one that it replaces."""
        damaged = int(row.sample_N[0])
        sample = replacement(damaged, attempt, len(self.split), self._seed, self._epoch)
        sample_N = np.array([sample])
        return row._replace(
            file=self.split.jpegs(sample_N), label_N=self.split.label(sample_N), sample_N=sample_N
        )

    def images(self, outputs: list[Tensor]) -> Images:
        if self._finish is None:
            return Images(*outputs)
        crops = Crops(*outputs)
        image_NHW3 = self._finish(crops.image_NHW3, crops.mirror_N, crops.mean_N3)
        return Images(image_NHW3, crops.label_N, crops.real_N, crops.sample_N)


class InOrder:
    """The samples of a split, one after the other."""

    def __init__(self, split: Split, shard: Shard, *, start: int, batch: int) -> None:
        self.split = split
        self._shard, self._start, self._batch = shard, start, batch

    def feeds(self) -> Iterator[WholeFeed]:
        shares = _shares(len(self.split), self._start, self._batch, self._shard)
        parts, ahead = tee(_padded(np.arange(first, stop), rows) for first, stop, rows in shares)
        files = self.split.read(sample_N for sample_N, _ in ahead)
        for (sample_N, real_N), file in zip(parts, files, strict=True):
            yield WholeFeed(file, self.split.label(sample_N), real_N, sample_N)

    def substitute(self, row: WholeFeed, attempt: int) -> WholeFeed:
        """The next one, as padding: it counts where it stands itself."""
        sample = (int(row.sample_N[0]) + attempt + 1) % len(self.split)
        sample_N = np.array([sample])
        return row._replace(
            file=self.split.jpegs(sample_N), real_N=np.array([False]), sample_N=sample_N
        )

    def images(self, outputs: list[Tensor]) -> Images:
        return Images(*outputs)


def _shares(samples: int, start: int, batch: int, shard: Shard) -> Iterator[tuple[int, int, int]]:
    for position in range(start, samples, batch):
        yield share(samples, position, batch, shard)


def _padded(sample_N: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill up to `rows` with sample 0, marked as not real."""
    padded_N = np.zeros(rows, np.int64)
    padded_N[: len(sample_N)] = sample_N
    return padded_N, np.arange(rows) < len(sample_N)
