"""What workers tell each other, about every second, of their steps since the last time."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, distributed


@dataclass
class Window:
    """What one worker counts between two exchanges."""

    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    wait_s: float = 0.0
    """Time spent on waiting for images."""
    counts_3: Tensor | float = 0.0
    """(sum of losses, right labels, samples), as `train_step` returns them."""


class Interval(NamedTuple):
    """One worker's part of an exchange, or the sum of all parts.

    What a single worker decides, the others leave at zero, so that the sum is its word.
    """

    loss_sum: float
    right: int
    samples: int
    """Samples that were learnt from, without padding."""
    replaced: int
    """Damaged images of this epoch that were replaced by others."""
    waiting: float
    """Fraction of the time of all workers that was spent on waiting for images."""
    squared_norm: float
    """Squared norm of the gradient of the latest batch, over all parameters."""
    exchange_every: int
    """Steps from one exchange to the next."""
    stop: bool
    """Whether the run is to save and end."""
    save: bool
    """Whether a checkpoint is due."""

    def summed(self, workers: int, device: torch.device) -> "Interval":
        """The sum over all workers, the same on each; all of them call it at once."""
        if workers == 1:
            return self
        total = torch.tensor(self, dtype=torch.float64, device=device)
        distributed.all_reduce(total)
        typed = (type(own)(value) for own, value in zip(self, total.tolist(), strict=True))
        return Interval._make(typed)
