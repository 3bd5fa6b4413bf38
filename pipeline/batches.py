"""Batches on the worker's device: pure functions of dataset, shard, seed, epoch and position."""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.views import centre_mean
from pipeline.dataset import Dataset
from pipeline.feed import Feed, TrainFeed, WholeFeed
from pipeline.finish import Finisher
from pipeline.graph import Output, PixelRule, train_graph, whole_graph
from pipeline.manifest import DatasetError, Mean, SplitName
from pipeline.order import Shard
from pipeline.reading import Epoch, InOrder, Reading
from pipeline.split import Damage

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
    reading = Epoch(
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
    reading = InOrder(
        dataset.split(name),
        shard,
        start=start,
        batch=batch,
        graph=lambda feeds, **options: whole_graph(feeds, rule, **options),
    )
    return Batches(reading, decoding, shard, _rows(batch, shard))


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


def _lost(file: np.ndarray) -> bool:
    """Nothing, or zeros, as a lost block of a disk reads."""
    return not file[:LOST_BYTES].any()


def _tensors(outputs: Any) -> list[Tensor]:
    return [torch.from_dlpack(output.as_tensor()) for output in outputs]
