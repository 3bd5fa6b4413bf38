"""Batches on the worker's device: pure functions of dataset, shard, seed, epoch and position."""

import logging
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice
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
from pipeline.order import Cropping, Ordering, Shard
from pipeline.reading import Epoch, InOrder, Reading
from pipeline.split import Damage, DamageError, Split, too_damaged

QUEUED = 3
"""Batches whose work a GPU still has before it."""

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
    """Threads of the CPU."""
    damage: Damage = "error"
    hw_load: float | None = 0.65
    """For images on a GPU: the share of decoding that goes to its JPEG engines, 0..1; the rest runs
    in CUDA. None: the CPU decodes, and one copy brings uint8 to the GPU (pipeline.hw_load)."""


class _Fed(NamedTuple, Generic[Feed]):
    """What DALI has been given and has not brought back."""

    reading: Reading[Feed]
    feed: Feed


class Batches(Generic[Feed]):
    """An iterator of Batch, one reading after the other; DALI decodes the next ones while the
    caller works, across the border of two readings as well.

    Raises DatasetError where the data is damaged, as `Decoding.damage` says.
    """

    def __init__(
        self,
        readings: Iterable[Reading[Feed]],
        graph: Any,
        decoding: Decoding,
        shard: Shard,
        rows: int,
    ) -> None:
        """`graph` takes an iterator of feeds and DALI's options, and returns the pipeline."""
        self._graph, self._decoding, self._device_id = graph, decoding, shard.device_id
        self._fed: deque[_Fed[Feed]] = deque()
        self._queued: deque[torch.cuda.Event] = deque()
        self._reading: Reading[Feed] | None = None
        self._failures = 0
        self._damaged: set[int] = set()  # padding repeats a sample, which is damaged but once
        self._pipe = self._build(_remembered(readings, self._fed), rows, ahead=2)

    @property
    def replaced(self) -> int:
        """Damaged images so far, in the reading of the last batch."""
        return len(self._damaged)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def keep_pace(self) -> None:
        """On a GPU, wait for the work on all but the last batches: until it is done, they keep
        their memory. The next batch does so too; calling it before tells this wait from that for
        images."""
        while len(self._queued) > QUEUED:
            self._queued.popleft().synchronize()

    def __next__(self) -> Batch:
        self.keep_pace()
        try:
            tensors = self._run(self._pipe)
        except RuntimeError as error:
            # This batch is lost, those after it are not.
            reading, feed = self._next_fed()
            tensors = self._repaired(reading, feed, error)
        else:
            reading, _ = self._next_fed()
        image_NHW3, *rest = reading.images(tensors)
        # The same memory seen as channels_last, no copy.
        return Batch(image_NHW3.permute(0, 3, 1, 2), *rest)

    def _next_fed(self) -> _Fed[Feed]:
        fed = self._fed.popleft()
        if fed.reading is not self._reading:
            self._reading = fed.reading
            self._damaged.clear()
        return fed

    def _build(self, feeds: Iterator[Feed], rows: int, *, ahead: int) -> Any:
        pipe = self._graph(
            feeds,
            batch_size=rows,
            num_threads=self._decoding.threads,
            device_id=self._device_id,
            prefetch_queue_depth=ahead,
        )
        pipe.build()
        return pipe

    def _run(self, pipe: Any) -> list[Tensor]:
        """Run the graph, on a GPU in the order of torch's stream: the host does not wait for the
        images, and their memory is not taken again before the work queued on them is done."""
        stream = None
        if self._device_id is not None:
            stream = torch.cuda.current_stream(self._device_id)
            self._queued.append(stream.record_event())
        return [torch.from_dlpack(output.as_tensor()) for output in pipe.run(stream)]

    def _repaired(self, reading: Reading[Feed], feed: Feed, error: Exception) -> list[Tensor]:
        """The batch of `feed` decoded sample by sample; damaged ones dealt with as decided."""
        columns: Any = feed
        rows = [type(feed)(*(c[n : n + 1] for c in columns)) for n in range(len(feed.file))]
        waiting: deque[Feed] = deque()
        single = self._build(iter(waiting.popleft, None), 1, ahead=1)
        before = self._failures
        repaired = [self._row(reading, row, waiting, single) for row in rows]
        if self._failures == before:
            raise error  # each decodes by itself: not damage
        return [torch.cat(column) for column in zip(*repaired, strict=True)]

    def _row(
        self, reading: Reading[Feed], row: Feed, waiting: deque[Feed], single: Any
    ) -> list[Tensor]:
        attempt, stand_in = 0, row
        while True:
            waiting.append(stand_in)
            try:
                return self._run(single)
            except RuntimeError:
                self._count_damage(reading.split, int(stand_in.sample_N[0]))
            stand_in = reading.substitute(row, attempt)
            attempt += 1

    def _count_damage(self, split: Split, sample: int) -> None:
        place = f"{split.place(sample)} (image {sample})"
        if self._decoding.damage == "error":
            raise DamageError(f"{place}: cannot be decoded; {split.remedy}") from None
        self._failures += 1
        self._damaged.add(sample)
        log.warning("%s: cannot be decoded and is left out (%d so far)", place, self.replaced)
        if too_damaged(split, self.replaced):
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
    epochs: int = 1,
    balanced: bool = False,
    ordering: Ordering = "random",
    cropping: Cropping = "random",
    mirrors: bool = True,
    mean: Mean = "pixel",
    colour_until: float = math.inf,
    output: Output = "float32",
) -> Batches[TrainFeed]:
    """This shard's part of the global batches of `batch` samples, from position `start` of `epoch`
    on, over so many `epochs`, without a pause between two.

    Every sample of an epoch comes once, in one shard, or where it is `balanced` every class equally
    often (`pipeline.order.balanced_order`); a last, smaller batch is padded. `ordering` is that of
    `pipeline.order.epoch_order`, for epochs that are not `balanced`. Crops are taken as `cropping`
    says; without `mirrors` none is mirrored. Epochs from `colour_until` on come without colour
    noise, as the last of 2012. `output` uint8 is the crop, mirrored or not, with neither colour nor
    mean.
    """
    mean_HW3, mean_3 = None, np.zeros(3)
    if output != "uint8" and mean == "pixel":
        mean_HW3 = np.ascontiguousarray(centre_mean(dataset.mean_SS3, crop).permute(1, 2, 0))
    elif output != "uint8":
        mean_3 = np.array(dataset.manifest.colour.mean)
    rule = _pixel_rule(dataset, decoding, shard)
    finish = Finisher(mean_HW3, output) if shard.device_id is None else None
    readings = (
        Epoch(
            dataset,
            shard,
            seed=seed,
            epoch=number,
            start=start if number == epoch else 0,
            batch=batch,
            balanced=balanced,
            margin=dataset.manifest.size - crop,
            ordering=ordering,
            cropping=cropping,
            mirrors=mirrors,
            mean_3=mean_3,
            noise=number < colour_until and output != "uint8",
            finish=finish,
        )
        for number in range(epoch, epoch + epochs)
    )

    def graph(feeds: Iterator[TrainFeed], **options: Any) -> Any:
        return train_graph(feeds, rule, crop, mean_HW3, output, **options)

    return Batches(readings, graph, decoding, shard, _rows(batch, shard))


def whole_batches(
    dataset: Dataset,
    name: SplitName,
    shard: Shard,
    decoding: Decoding,
    *,
    batch: int,
    start: int = 0,
    passes: int | None = 1,
) -> Batches[WholeFeed]:
    """This shard's part of a split in order, whole images; each is real in one shard, once a pass.

    `passes` follow one another without a pause; None: without end.
    """
    rule = _pixel_rule(dataset, decoding, shard)
    readings = (
        InOrder(dataset.split(name), shard, start=start, batch=batch)
        for _ in islice(count(), passes)
    )

    def graph(feeds: Iterator[WholeFeed], **options: Any) -> Any:
        return whole_graph(feeds, rule, **options)

    return Batches(readings, graph, decoding, shard, _rows(batch, shard))


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


def _remembered(readings: Iterable[Reading[Feed]], fed: deque[_Fed[Feed]]) -> Iterator[Feed]:
    """What DALI is fed, as it is put into `fed`."""
    for reading in readings:
        for feed in reading.feeds():
            fed.append(_Fed(reading, feed))
            yield feed
