"""How much earlier one kind of training reaches a goal than another."""

from collections.abc import Sequence
from math import inf
from statistics import mean
from typing import NamedTuple


class Race(NamedTuple):
    """How many times as fast ReLU is as tanh."""

    ratio: float | None
    """The mean over the seeds; None where a ReLU network has not arrived."""
    low: float | None
    high: float | None
    at_least: bool
    """Whether some of tanh have not arrived, and count as if they had at the end."""

    @classmethod
    def of(cls, relu: Sequence[float], tanh: Sequence[float], most: float) -> "Race":
        """Of the epochs that each seed took, infinite where it had not arrived after `most`."""
        if inf in relu:
            return cls(None, None, None, at_least=False)
        ratios = [min(slow, most) / fast for fast, slow in zip(relu, tanh, strict=True)]
        return cls(mean(ratios), min(ratios), max(ratios), at_least=inf in tanh)


def epochs_to(goal: float, errors: Sequence[float]) -> float:
    """When the error first falls to the goal; infinite where it does not.

    The error of an epoch, which is that of its mini-batches, stands at the epoch's middle; between
    two of them the line is straight.
    """
    for number, error in enumerate(errors):
        if error <= goal:
            if not number:
                return 0.5
            before = errors[number - 1]
            return number - 0.5 + (before - goal) / (before - error)
    return inf
