"""Batches on the worker's device: pure functions of dataset, shard, seed, epoch and position."""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from alexnet.views import centre_mean
from pipeline.dataset import Dataset
from pipeline.feed import Crops, Feed, Images, TrainFeed, WholeFeed
from pipeline.finish import Finisher
from pipeline.graph import Output, PixelRule, train_graph, whole_graph
from pipeline.manifest import DatasetError, Mean, SplitName
from pipeline.order import Shard, epoch_order, replacement, share, variation
from pipeline.split import Damage, Split

MAX_DAMAGED_SHARE, ALWAYS_REPLACED = 0.01, 5
"""`replace` gives up beyond this share of a split, but not before so many damaged images."""
LOST_BYTES = 16
"""No image format begins with so many zeros."""

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """All that crosses from pipeline to trainer."""

    image_NCHW: Tensor
    """In training, the crop minus the mean; in evaluation, the whole image, uint8. Both are
    channels_last."""
    label_N: Tensor
    """int64."""
    real_N: Tensor
    """bool; False on the padding of a last batch."""
    sample_N: Tensor
    """int64, index in the split."""


@dataclass(frozen=True)
class Decoding:
    """How a worker turns files into pixels."""

    threads: int
    """Of the CPU."""
    damage: Damage = "error"
    hw_load: float = 0.65
    """Share of a GPU's decoding that goes to its JPEG engines, 0..1 (pipeline.hw_load)."""


class Reading(Protocol[Feed]):
    """What a worker reads of a split, and how."""

    split: Split
    graph: Any
    """Takes an iterator of feeds and DALI's options; returns the pipeline."""

    def feeds(self) -> Iterator[Feed]:
        """What the graph is fed, batch by batch."""

    def substitute(self, row: Feed, attempt: int) -> Feed:
        """What stands in for a feed of a single, damaged sample, at the given attempt."""

    def images(self, outputs: list[Tensor]) -> Images:
        """What the graph's outputs are, finished."""


class Batches(Generic[Feed]):
    """An iterator of Batch; DALI decodes the next ones while the caller works.

    Raises DatasetError where the data is damaged, as `Decoding.damage` says.
    """

    def __init__(self, reading: Reading[Feed], decoding: Decoding, shard: Shard, rows: int) -> None:
        self._reading: Reading[Feed] = reading
        self._decoding, self._device_id = decoding, shard.device_id
        self._fed: deque[Feed] = deque()
        self._failures = 0
        self._damaged: set[int] = set()  # padding repeats a sample, which is damaged but once
        self._pipe = self._build(self._remembered(), rows, ahead=2)

    @property
    def replaced(self) -> int:
        """Damaged images so far."""
        return len(self._damaged)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        try:
            tensors = _tensors(self._pipe.run())
        except RuntimeError as error:
            # This batch is lost, those after it are not.
            tensors = self._repaired(self._fed.popleft(), error)
        else:
            feed = self._fed.popleft()
            if any(map(_lost, feed.file)):
                tensors = self._repaired(
                    feed, DatasetError("the images are missing, yet were decoded")
                )
        image_NHW3, *rest = self._reading.images(tensors)
        # The same memory seen as channels_last, no copy.
        return Batch(image_NHW3.permute(0, 3, 1, 2), *rest)

    def _build(self, feeds: Iterator[Feed], rows: int, *, ahead: int) -> Any:
        pipe = self._reading.graph(
            feeds,
            batch_size=rows,
            num_threads=self._decoding.threads,
            device_id=self._device_id,
            prefetch_queue_depth=ahead,
        )
        pipe.build()
        return pipe

    def _remembered(self) -> Iterator[Feed]:
        """What DALI is fed. Of several images in a batch one that fails can crash the process: on
        a busy machine the decoding of the others outlives the error (DALI 2.4). What is plainly
        lost is kept from it, by another image of the batch in its place."""
        for feed in self._reading.feeds():
            self._fed.append(feed)
            there = [file for file in feed.file if not _lost(file)]
            if there and len(there) < len(feed.file):
                files = [there[0] if _lost(file) else file for file in feed.file]
                feed = feed._replace(file=files)
            yield feed

    def _repaired(self, feed: Feed, error: Exception) -> list[Tensor]:
        """The same batch, decoded sample by sample; damaged ones dealt with as decided."""
        columns: Any = feed
        rows = [type(feed)(*(c[n : n + 1] for c in columns)) for n in range(len(feed.file))]
        waiting: deque[Feed] = deque()
        single = self._build(iter(waiting.popleft, None), 1, ahead=1)
        before = self._failures
        repaired = [self._row(row, waiting, single) for row in rows]
        if self._failures == before:
            raise error  # each decodes by itself: not damage
        return [torch.cat(column) for column in zip(*repaired, strict=True)]

    def _row(self, row: Feed, waiting: deque[Feed], single: Any) -> list[Tensor]:
        attempt, stand_in = 0, row
        while True:
            waiting.append(stand_in)
            try:
                return _tensors(single.run())
            except RuntimeError:
                self._count_damage(int(stand_in.sample_N[0]))
            stand_in = self._reading.substitute(row, attempt)
            attempt += 1

    def _count_damage(self, sample: int) -> None:
        split = self._reading.split
        place = f"{split.place(sample)} (image {sample})"
        if self._decoding.damage == "error":
            raise DatasetError(
                f"{place}: cannot be decoded; {split.remedy}, or train with --damage replace"
            ) from None
        self._failures += 1
        self._damaged.add(sample)
        log.warning("%s: cannot be decoded and is left out (%d so far)", place, self.replaced)
        if self.replaced > max(ALWAYS_REPLACED, MAX_DAMAGED_SHARE * len(split)):
            raise DatasetError(
                f"{place}: cannot be decoded, nor can {self.replaced - 1} others of "
                f"{len(split):,}, too many to replace; {split.remedy}"
            ) from None


def train_batches(
    dataset: Dataset,
    shard: Shard,
    decoding: Decoding,
    *,
    seed: int,
    epoch: int,
    start: int,
    batch: int,
    crop: int,
    mean: Mean = "pixel",
    colour: bool = True,
    output: Output = "float32",
) -> Batches[TrainFeed]:
    """This shard's part of the global batches of `batch` samples, from position `start` on.

    Every sample of the epoch comes once, in one shard; a last, smaller batch is padded. `colour`
    off leaves the noise out, as in the last epochs of 2012. `output` uint8 is the crop, mirrored
    at random, with neither colour nor mean.
    """
    mean_HW3, mean_3 = None, np.zeros(3)
    if output != "uint8" and mean == "pixel":
        mean_HW3 = np.ascontiguousarray(centre_mean(dataset.mean_SS3, crop).permute(1, 2, 0))
    elif output != "uint8":
        mean_3 = np.array(dataset.manifest.colour.mean)
    rule = _pixel_rule(dataset, decoding, shard)
    reading = _Epoch(
        dataset,
        shard,
        seed=seed,
        epoch=epoch,
        start=start,
        batch=batch,
        margin=dataset.manifest.size - crop,
        mean_3=mean_3,
        noise=colour and output != "uint8",
        graph=lambda feeds, **options: train_graph(feeds, rule, crop, mean_HW3, output, **options),
        finish=Finisher(mean_HW3, output) if shard.device_id is None else None,
    )
    return Batches(reading, decoding, shard, _rows(batch, shard))


def whole_batches(
    dataset: Dataset,
    name: SplitName,
    shard: Shard,
    decoding: Decoding,
    *,
    batch: int,
    start: int = 0,
) -> Batches[WholeFeed]:
    """This shard's part of a split in order, whole images; each is real in one shard, once."""
    rule = _pixel_rule(dataset, decoding, shard)
    reading = _InOrder(
        dataset.split(name),
        shard,
        start=start,
        batch=batch,
        graph=lambda feeds, **options: whole_graph(feeds, rule, **options),
    )
    return Batches(reading, decoding, shard, _rows(batch, shard))


class _Epoch:
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
        margin: int,
        mean_3: np.ndarray,
        noise: bool,
        graph: Any,
        finish: Finisher | None,
    ) -> None:
        self.split, self.graph = dataset.train, graph
        self._shard, self._seed, self._epoch = shard, seed, epoch
        self._start, self._batch, self._margin = start, batch, margin
        self._mean_3, self._finish = mean_3, finish
        colour = dataset.manifest.colour
        # Columns of deviations along the principal components, in grey levels (convdata_jpeg.py):
        # the root of the eigenvalue, which the paper's text leaves out.
        self._component_33 = np.array(colour.eigenvectors) * np.sqrt(colour.eigenvalues) * noise

    def feeds(self) -> Iterator[TrainFeed]:
        samples = len(self.split)
        order_N = epoch_order(samples, self._seed, self._epoch)
        for first, stop, rows in _shares(samples, self._start, self._batch, self._shard):
            sample_N, real_N = _padded(order_N[first:stop], rows)
            vary = variation(first, first + rows, self._seed, self._epoch, self._margin)
            # The colour is added by subtracting its negative: the graph takes a mean per sample.
            offset_N3 = vary.alpha_N3 @ self._component_33.T
            yield TrainFeed(
                file=[self.split.jpeg(sample) for sample in sample_N.tolist()],
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
            file=[self.split.jpeg(sample)], label_N=self.split.label(sample_N), sample_N=sample_N
        )

    def images(self, outputs: list[Tensor]) -> Images:
        if self._finish is None:
            return Images(*outputs)
        crops = Crops(*outputs)
        image_NHW3 = self._finish(crops.image_NHW3, crops.mirror_N, crops.mean_N3)
        return Images(image_NHW3, crops.label_N, crops.real_N, crops.sample_N)


class _InOrder:
    """The samples of a split, one after the other."""

    def __init__(self, split: Split, shard: Shard, *, start: int, batch: int, graph: Any) -> None:
        self.split, self.graph = split, graph
        self._shard, self._start, self._batch = shard, start, batch

    def feeds(self) -> Iterator[WholeFeed]:
        for first, stop, rows in _shares(len(self.split), self._start, self._batch, self._shard):
            sample_N, real_N = _padded(np.arange(first, stop), rows)
            files = [self.split.jpeg(sample) for sample in sample_N.tolist()]
            yield WholeFeed(files, self.split.label(sample_N), real_N, sample_N)

    def substitute(self, row: WholeFeed, attempt: int) -> WholeFeed:
        """The next one, as padding: it counts where it stands itself."""
        sample = (int(row.sample_N[0]) + attempt + 1) % len(self.split)
        return row._replace(
            file=[self.split.jpeg(sample)],
            real_N=np.array([False]),
            sample_N=np.array([sample]),
        )

    def images(self, outputs: list[Tensor]) -> Images:
        return Images(*outputs)


def _pixel_rule(dataset: Dataset, decoding: Decoding, shard: Shard) -> PixelRule:
    return PixelRule(
        size=dataset.manifest.size,
        scale=dataset.manifest.original,
        gpu=shard.device_id is not None,
        hw_load=decoding.hw_load,
    )


def _rows(batch: int, shard: Shard) -> int:
    """Rows of every batch of every shard."""
    return -(-batch // shard.count)


def _shares(samples: int, start: int, batch: int, shard: Shard) -> Iterator[tuple[int, int, int]]:
    for position in range(start, samples, batch):
        yield share(samples, position, batch, shard)


def _padded(sample_N: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill up to `rows` with sample 0, marked as not real."""
    padded_N = np.zeros(rows, np.int64)
    padded_N[: len(sample_N)] = sample_N
    return padded_N, np.arange(rows) < len(sample_N)


def _lost(file: np.ndarray) -> bool:
    """Nothing, or zeros, as a lost block of a disk reads."""
    return not file[:LOST_BYTES].any()


def _tensors(outputs: Any) -> list[Tensor]:
    return [torch.from_dlpack(output.as_tensor()) for output in outputs]
