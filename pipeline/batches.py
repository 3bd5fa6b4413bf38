"""Batches on the worker's device: pure functions of dataset, shard, seed, epoch and position."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.views import centre_mean
from pipeline.dataset import Dataset, Split
from pipeline.graph import train_graph, whole_graph
from pipeline.order import Shard, epoch_order, share, variation


class Batch(NamedTuple):
    """All that crosses from pipeline to trainer."""

    image_NCHW: Tensor
    """Training: float32 crop minus mean. Evaluation: uint8 whole picture. Both channels_last."""
    label_N: Tensor
    """int64."""
    real_N: Tensor
    """bool; False on the padding of a last batch."""
    sample_N: Tensor
    """int64, index in the split."""


def train_batches(
    dataset: Dataset,
    shard: Shard,
    *,
    seed: int,
    epoch: int,
    start: int,
    batch: int,
    crop: int,
    threads: int,
) -> Iterator[Batch]:
    """This shard's part of the global batches of `batch` samples, from position `start` on.

    Every sample of the epoch comes once, in one shard; a last, smaller batch is padded.
    """
    split = dataset.train
    order_N = epoch_order(len(split), seed, epoch)
    margin = dataset.manifest.size - crop
    colour = dataset.manifest.colour
    # Columns of deviations along the principal components, in grey levels (convdata_jpeg.py): the
    # root of the eigenvalue, which the paper's text leaves out.
    component_33 = np.array(colour.eigenvectors) * np.sqrt(colour.eigenvalues)

    def feed() -> Iterator[tuple[Any, ...]]:
        for first, stop, rows in _shares(len(split), start, batch, shard):
            sample_N, real_N = _padded(order_N[first:stop], rows)
            vary = variation(first, first + rows, seed, epoch, margin)
            yield (
                [split.jpeg(sample) for sample in sample_N],
                (vary.crop_N2 / max(margin, 1)).astype(np.float32),
                vary.mirror_N,
                (vary.alpha_N3 @ component_33.T).astype(np.float32),
                split.label_N[sample_N],
                real_N,
                sample_N,
            )

    gpu = shard.device_id is not None
    return _run(
        train_graph(
            feed(),
            crop,
            centre_mean(dataset.mean_SS3, crop).permute(1, 2, 0).numpy(),
            gpu,
            batch_size=-(-batch // shard.count),
            num_threads=threads,
            device_id=shard.device_id,
            prefetch_queue_depth=2,
        )
    )


def whole_batches(split: Split, shard: Shard, *, batch: int, threads: int) -> Iterator[Batch]:
    """This shard's part of a split in order, whole pictures; each is real in one shard, once."""

    def feed() -> Iterator[tuple[Any, ...]]:
        for first, stop, rows in _shares(len(split), 0, batch, shard):
            sample_N, real_N = _padded(np.arange(first, stop), rows)
            jpegs = [split.jpeg(sample) for sample in sample_N]
            yield jpegs, split.label_N[sample_N], real_N, sample_N

    return _run(
        whole_graph(
            feed(),
            shard.device_id is not None,
            batch_size=-(-batch // shard.count),
            num_threads=threads,
            device_id=shard.device_id,
            prefetch_queue_depth=2,
        )
    )


def _shares(samples: int, start: int, batch: int, shard: Shard) -> Iterator[tuple[int, int, int]]:
    for position in range(start, samples, batch):
        yield share(samples, position, batch, shard)


def _padded(sample_N: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill up to `rows` with sample 0, marked as not real."""
    padded_N = np.zeros(rows, np.int64)
    padded_N[: len(sample_N)] = sample_N
    return padded_N, np.arange(rows) < len(sample_N)


def _run(pipe: Any) -> Iterator[Batch]:
    """Iterate a built graph; DALI decodes the next batches while the caller works."""
    pipe.build()
    while True:
        try:
            outputs = pipe.run()
        except StopIteration:
            return
        image_NHWC, *rest = (torch.from_dlpack(output.as_tensor()) for output in outputs)
        # The same memory seen as channels_last, no copy.
        yield Batch(image_NHWC.permute(0, 3, 1, 2), *rest)
