"""One step of training, and the counts that come out of it."""

from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from alexnet.dropout import Draw
from pipeline.batches import Batch
from trainer.loop.optimizer import SGD2012
from trainer.loop.precision import autocast


class StepPosition(NamedTuple):
    """Where a worker's rows stand in the run."""

    seed: int
    epoch: int
    position: int
    """Of the first sample of the global batch in its epoch."""
    real: int
    """Samples in the global batch, without padding."""
    first: int
    """Row of the global batch that this worker's first row is."""


def train_step(
    model: nn.Module,
    optimizer: SGD2012,
    batch: Batch,
    place: StepPosition,
    *,
    world: int,
    precision: str,
    micro_batch: int | None = None,
) -> Tensor:
    """Gradient of the mean loss over the global batch, one update.

    `world` workers share the batch; data-parallel gradients are averaged over them. With
    `micro_batch` the worker's rows pass in parts of at most so many: less memory, the same update.
    Returns (sum of losses, right labels, samples) of this worker's real rows, float64 (3,).
    """
    rows = len(batch.label_N)
    most = micro_batch or rows
    counts_3 = torch.zeros(3, dtype=torch.float64, device=batch.image_NCHW.device)
    optimizer.zero_grad(set_to_none=True)
    for start in range(0, rows, most):
        part = Batch(*(field[start : start + most] for field in batch))
        last = start + most >= rows
        parallel = isinstance(model, DistributedDataParallel)
        with model.no_sync() if parallel and not last else nullcontext():  # type: ignore[operator]
            masks = draw(place, place.first + start)
            with autocast(precision, part.image_NCHW.device):
                logit_NK = model(part.image_NCHW, masks)
            logit_NK = logit_NK.float()
            loss_N = F.cross_entropy(logit_NK, part.label_N, reduction="none") * part.real_N
            (loss_N.sum() * (world / place.real)).backward()
        with torch.no_grad():
            right_N = (logit_NK.argmax(dim=1) == part.label_N) & part.real_N
            counts_3 += torch.stack(
                [loss_N.double().sum(), right_N.double().sum(), part.real_N.sum()]
            )
    optimizer.step()
    return counts_3


def draw(place: StepPosition, first: int) -> Draw:
    """Where the masks of a pass of rows from `first` on are found: it depends on where the run
    stands, neither on the past nor on how many workers share the batch."""
    words = np.random.SeedSequence((place.seed, place.epoch, place.position))
    return Draw(int(words.generate_state(1, np.uint64)[0]), first)
