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
    """Where the first sample of the global batch comes in its epoch, from 0."""
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
    class_weight_K: Tensor | None = None,
) -> Tensor:
    """Gradient of the mean loss over the global batch, one update.

    `world` workers share the batch; data-parallel gradients are averaged over them. With
    `micro_batch` the worker's rows pass in parts of at most so many: less memory, the same update.
    With `class_weight_K` each image's loss is multiplied by the weight of its class, and the mean
    divides by the number of images: as torch's `cross_entropy(weight=…, reduction="sum")` over that
    number, not as its "mean", which divides by the sum of the batch's weights.
    Returns (sum of losses without weights, right labels, samples) of this worker's real rows,
    float64 (3,).
    """
    rows = len(batch.label_N)
    most = micro_batch or rows
    weight_N = batch.real_N * (world / place.real)
    if class_weight_K is not None:
        weight_N = weight_N * class_weight_K[batch.label_N]
    counted_3N = torch.empty(3, rows, device=batch.image_NCHW.device)
    counted_3N[2] = batch.real_N
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
            loss_N = F.cross_entropy(logit_NK, part.label_N, reduction="none")
            # The gradient of their weighted sum, which itself is not needed.
            loss_N.backward(weight_N[start : start + most])
        with torch.no_grad():
            torch.mul(loss_N, part.real_N, out=counted_3N[0, start : start + most])
            right_N = logit_NK.argmax(dim=1) == part.label_N
            torch.logical_and(right_N, part.real_N, out=counted_3N[1, start : start + most])
    optimizer.step()
    return counted_3N.sum(dim=1, dtype=torch.float64)


def draw(place: StepPosition, first: int) -> Draw:
    """Where the masks of a pass of rows from `first` on are found: it depends on where the run
    stands, neither on the past nor on how many workers share the batch."""
    words = np.random.SeedSequence((place.seed, place.epoch, place.position))
    return Draw(int(words.generate_state(1, np.uint64)[0]), first)
