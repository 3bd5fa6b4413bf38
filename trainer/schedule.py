"""The learning rate, as a function of how far the run is and of how it went so far."""

from collections.abc import Sequence
from math import cos, pi
from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Drops = tuple[tuple[float, float], ...]
"""(part of the run from which on, factor of the first learning rate), rising."""


class Factors(NamedTuple):
    """Factors of the recipe's learning rate."""

    weights: float
    biases: float


class Fixed(BaseModel):
    """Drops at parts of the run: the author's own automatic schedule (layer-params-170.cfg)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["fixed"] = "fixed"
    drops: Drops = ((0.25, 0.1587), (0.5, 0.0252), (0.75, 0.004))
    bias_drops: Drops = ((0.5, 0.1),)
    """Config 170 drops the biases' learning rate once; config 145 never did."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        for drops in (self.drops, self.bias_drops):
            starts = [start for start, _ in drops]
            if starts != sorted(set(starts)) or any(not 0 < start < 1 for start in starts):
                raise ValueError(
                    f"the drops start at {starts} of the run; these must rise, between 0 and 1"
                )
            if any(factor <= 0 for _, factor in drops):
                raise ValueError("the factor of a drop must be above 0")
        return self

    def at(self, progress: float, errors: Sequence[float]) -> Factors:
        return Factors(_last(self.drops, progress), _last(self.bias_drops, progress))

    def agrees(self, trained: float, fewer: int) -> bool:
        return all(trained <= start * fewer for start, _ in self.drops + self.bias_drops)


class Plateau(BaseModel):
    """Divide by ten when the validation error stops improving, three times (§5)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["plateau"] = "plateau"
    factor: float = Field(0.1, gt=0, lt=1)
    drops: int = Field(3, ge=1)
    bias_drops: int = Field(1, ge=0)
    """How many of the drops the biases follow; one in configs 145-2010 and 170: .02, then .002."""
    patience: int = Field(5, ge=1)
    """Epochs without a new best error before a drop."""
    threshold: float = Field(0.002, ge=0)
    """Part of the best error by which a new best is lower."""

    def at(self, progress: float, errors: Sequence[float]) -> Factors:
        dropped = self.dropped(errors)
        return Factors(self.factor**dropped, self.factor ** min(dropped, self.bias_drops))

    def agrees(self, trained: float, fewer: int) -> bool:
        return True

    def dropped(self, errors: Sequence[float]) -> int:
        """Drops after the validation errors of the epochs so far."""
        best, since, dropped = float("inf"), 0, 0
        for error in errors:
            if error < best * (1 - self.threshold):
                best, since = error, 0
            else:
                since += 1
            if since == self.patience and dropped < self.drops:
                dropped, since = dropped + 1, 0
        return dropped


class Cosine(BaseModel):
    """Half a cosine, to a thousandth: for short runs, where each drop would come too soon.

    The biases' learning rate falls with that of the weights, as in no configuration of 2012.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["cosine"] = "cosine"

    def at(self, progress: float, errors: Sequence[float]) -> Factors:
        factor = max((1 + cos(pi * progress)) / 2, 0.001)
        return Factors(factor, factor)

    def agrees(self, trained: float, fewer: int) -> bool:
        return trained == 0


Schedule = Fixed | Plateau | Cosine
"""`at(progress, errors)`: the factors once a part of the run, 0 to 1, is done and its epochs had
these validation errors. `agrees(trained, fewer)`: whether the first `trained` epochs have the same
factors in a run of `fewer` epochs as in a longer one."""


def _last(drops: Drops, progress: float) -> float:
    return [1.0, *(factor for start, factor in drops if start <= progress)][-1]
