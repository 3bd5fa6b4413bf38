"""One step of training, and the counts that come out of it."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.batches import Batch
from trainer.config import autocast
from trainer.optimizer import SGD2012


def train_step(
    model: nn.Module, optimizer: SGD2012, batch: Batch, share: float, precision: str
) -> Tensor:
    """Gradient of the mean loss over the global batch, one update.

    `share` is world size / real samples in the global batch: data-parallel gradients are averaged
    over the workers, so each worker weighs its sum of losses with it.
    Returns (sum of losses, right labels, samples) of this worker's real rows, float64 (3,).
    """
    with autocast(precision, batch.image_NCHW.device):
        logit_NK = model(batch.image_NCHW)
    loss_N = F.cross_entropy(logit_NK.float(), batch.label_N, reduction="none") * batch.real_N
    optimizer.zero_grad(set_to_none=True)
    (loss_N.sum() * share).backward()
    optimizer.step()
    with torch.no_grad():
        right_N = (logit_NK.argmax(dim=1) == batch.label_N) & batch.real_N
        return torch.stack([loss_N.double().sum(), right_N.double().sum(), batch.real_N.sum()])


def seed_dropout(seed: int, epoch: int, position: int, rank: int) -> None:
    """Make the masks of the next step depend on where it stands in the run, not on the past."""
    (word,) = np.random.SeedSequence((seed, epoch, position, rank)).generate_state(1, np.uint64)
    torch.manual_seed(int(word))
