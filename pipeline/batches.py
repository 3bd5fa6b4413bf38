"""Batches on the worker's device: pure functions of dataset, shard, seed, epoch and position."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.views import centre_mean
from pipeline.dataset import Dataset
from pipeline.finish import Finisher
from pipeline.graph import Decoder, Output, train_graph, whole_graph
from pipeline.manifest import DatasetError, Mean, SplitName
from pipeline.order import Shard, epoch_order, replacement, share, variation
from pipeline.pictures import Damage, Pictures

MAX_REPLACED, FEW = 0.01, 5
"""Share of a split that may be damaged, or a few pictures, before `replace` gives up too."""

Columns = tuple[Any, ...]
"""What a graph is fed: (file, ..., label, real, sample), a row for each sample."""

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """All that crosses from pipeline to trainer."""

    image_NCHW: Tensor
    """Training: crop minus mean. Evaluation: uint8 whole picture. Both channels_last."""
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
    """Share of a GPU's decoding that goes to its JPEG engines, 0..1 (pipeline.decoder)."""


class Batches:
    """An iterator of Batch; DALI decodes the next ones while the caller works.

    Raises DatasetError where the data is damaged, as `Decoding.damage` says.
    """

    def __init__(
        self,
        split: Pictures,
        decoding: Decoding,
        shard: Shard,
        rows: int,
        graph: Callable[..., Any],
        feed: Iterable[Columns],
        substitute: Callable[[Columns, int], Columns],
        finish: Callable[..., Tensor],
    ) -> None:
        """`graph` takes a feed and DALI's options; `substitute` gives what stands in for a single
        damaged row, at the given attempt; `finish` makes the image of all but the last three
        outputs of the graph."""
        self._split, self._decoding = split, decoding
        self._substitute, self._finish = substitute, finish
        self._build = lambda feed, rows, ahead: graph(
            feed,
            batch_size=rows,
            num_threads=decoding.threads,
            device_id=shard.device_id,
            prefetch_queue_depth=ahead,
        )
        self._fed: deque[Columns] = deque()
        self._failures = 0
        self._damaged: set[int] = set()  # padding repeats a sample, which is damaged but once
        self._pipe = self._build(self._remembered(feed), rows, 2)
        self._pipe.build()

    @property
    def replaced(self) -> int:
        """Damaged pictures so far."""
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
            columns = self._fed.popleft()
            if any(map(_lost, columns[0])):
                tensors = self._repaired(
                    columns, DatasetError("the images are missing, yet were decoded")
                )
        # The same memory seen as channels_last, no copy.
        return Batch(self._finish(*tensors[:-3]).permute(0, 3, 1, 2), *tensors[-3:])

    def _remembered(self, feed: Iterable[Columns]) -> Iterator[Columns]:
        """What DALI is fed. Of several pictures in a batch one that fails can crash the process: on
        a busy machine the decoding of the others outlives the error (DALI 2.4). What is plainly
        lost is kept from it, by another picture of the batch in its place."""
        for columns in feed:
            self._fed.append(columns)
            files, *rest = columns
            there = [file for file in files if not _lost(file)]
            if there and len(there) < len(files):
                files = [there[0] if _lost(file) else file for file in files]
            yield files, *rest

    def _repaired(self, columns: Columns, error: Exception) -> list[Tensor]:
        """The same batch, decoded sample by sample; damaged ones dealt with as decided."""
        rows = [tuple(column[n : n + 1] for column in columns) for n in range(len(columns[0]))]
        waiting: deque[Columns] = deque()
        single = self._build(iter(waiting.popleft, None), 1, 1)
        single.build()
        before = self._failures
        repaired = [self._row(row, waiting, single) for row in rows]
        if self._failures == before:
            raise error  # each decodes by itself: not damage
        return [torch.cat(column) for column in zip(*repaired, strict=True)]

    def _row(self, row: Columns, waiting: deque[Columns], single: Any) -> list[Tensor]:
        attempt, stand_in = 0, row
        while True:
            waiting.append(stand_in)
            try:
                return _tensors(single.run())
            except RuntimeError:
                self._count_damage(int(stand_in[-1][0]))
            stand_in = self._substitute(row, attempt)
            attempt += 1

    def _count_damage(self, sample: int) -> None:
        place = f"{self._split.place(sample)} (image {sample})"
        remedy = "`alexnet verify` lists all damage; copy the dataset again"
        if self._decoding.damage == "error":
            raise DatasetError(
                f"{place}: cannot be decoded; {remedy}, or train with --damage replace"
            ) from None
        self._failures += 1
        self._damaged.add(sample)
        log.warning("%s: cannot be decoded and is left out (%d so far)", place, self.replaced)
        if self.replaced > max(FEW, MAX_REPLACED * len(self._split)):
            raise DatasetError(
                f"{place}: cannot be decoded, nor can {self.replaced - 1} others of "
                f"{len(self._split):,}, too many to replace; {remedy}"
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
) -> Batches:
    """This shard's part of the global batches of `batch` samples, from position `start` on.

    Every sample of the epoch comes once, in one shard; a last, smaller batch is padded. `colour`
    off leaves the noise out, as in the last epochs of 2012. `output` uint8 is the crop, mirrored
    at random, with neither colour nor mean.
    """
    split = dataset.train
    order_N = epoch_order(len(split), seed, epoch)
    margin = dataset.manifest.size - crop
    statistics = dataset.manifest.colour
    # Columns of deviations along the principal components, in grey levels (convdata_jpeg.py): the
    # root of the eigenvalue, which the paper's text leaves out.
    component_33 = np.array(statistics.eigenvectors) * np.sqrt(statistics.eigenvalues)
    mean_HW3, mean_3 = None, np.zeros(3)
    if output != "uint8" and mean == "pixel":
        mean_HW3 = np.ascontiguousarray(centre_mean(dataset.mean_SS3, crop).permute(1, 2, 0))
    elif output != "uint8":
        mean_3 = np.array(statistics.mean)

    def feed() -> Iterator[Columns]:
        for first, stop, rows in _shares(len(split), start, batch, shard):
            sample_N, real_N = _padded(order_N[first:stop], rows)
            vary = variation(first, first + rows, seed, epoch, margin)
            # The colour is added by subtracting its negative: the graph takes a mean per sample.
            offset_N3 = vary.alpha_N3 @ component_33.T
            if output == "uint8" or not colour:
                offset_N3 = np.zeros((rows, 3))
            yield (
                [split.jpeg(sample) for sample in sample_N.tolist()],
                (vary.crop_N2 / max(margin, 1)).astype(np.float32),
                vary.mirror_N,
                (mean_3 - offset_N3).astype(np.float32),
                split.label(sample_N),
                real_N,
                sample_N,
            )

    def substitute(row: Columns, attempt: int) -> Columns:
        sample = replacement(int(row[-1][0]), attempt, len(split), seed, epoch)
        sample_N = np.array([sample])
        return [split.jpeg(sample)], *row[1:4], split.label(sample_N), row[5], sample_N

    return Batches(
        split,
        decoding,
        shard,
        -(-batch // shard.count),
        lambda feed, **options: train_graph(
            feed, _decoder(dataset, decoding, shard), crop, mean_HW3, output, **options
        ),
        feed(),
        substitute,
        Finisher(mean_HW3, output) if shard.device_id is None else _as_it_is,
    )


def whole_batches(
    dataset: Dataset,
    name: SplitName,
    shard: Shard,
    decoding: Decoding,
    *,
    batch: int,
    start: int = 0,
) -> Batches:
    """This shard's part of a split in order, whole pictures; each is real in one shard, once."""
    split = dataset.split(name)

    def feed() -> Iterator[Columns]:
        for first, stop, rows in _shares(len(split), start, batch, shard):
            sample_N, real_N = _padded(np.arange(first, stop), rows)
            files = [split.jpeg(sample) for sample in sample_N.tolist()]
            yield files, split.label(sample_N), real_N, sample_N

    def substitute(row: Columns, attempt: int) -> Columns:
        """The next one, as padding: it counts where it stands itself."""
        sample = (int(row[-1][0]) + attempt + 1) % len(split)
        return [split.jpeg(sample)], row[1], np.array([False]), np.array([sample])

    return Batches(
        split,
        decoding,
        shard,
        -(-batch // shard.count),
        lambda feed, **options: whole_graph(feed, _decoder(dataset, decoding, shard), **options),
        feed(),
        substitute,
        _as_it_is,
    )


def _decoder(dataset: Dataset, decoding: Decoding, shard: Shard) -> Decoder:
    return Decoder(
        size=dataset.manifest.size,
        scale=dataset.manifest.original,
        gpu=shard.device_id is not None,
        hw_load=decoding.hw_load,
    )


def _shares(samples: int, start: int, batch: int, shard: Shard) -> Iterator[tuple[int, int, int]]:
    for position in range(start, samples, batch):
        yield share(samples, position, batch, shard)


def _padded(sample_N: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill up to `rows` with sample 0, marked as not real."""
    padded_N = np.zeros(rows, np.int64)
    padded_N[: len(sample_N)] = sample_N
    return padded_N, np.arange(rows) < len(sample_N)


def _lost(file: np.ndarray) -> bool:
    """Nothing, or zeros, as a lost block of a disk reads: no format of pictures begins so."""
    return not len(file) or file[0] == 0


def _as_it_is(image_NHW3: Tensor) -> Tensor:
    return image_NHW3


def _tensors(outputs: Any) -> list[Tensor]:
    return [torch.from_dlpack(output.as_tensor()) for output in outputs]
