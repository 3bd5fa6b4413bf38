"""How sure a mean over few seeds is."""

from collections.abc import Sequence
from math import inf, isfinite, sqrt
from statistics import mean, stdev
from typing import NamedTuple

CONFIDENCE = 0.95
SURE = f"{100 * CONFIDENCE:g} %"


class Interval(NamedTuple):
    """A mean and Student's interval around it."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Of one value the interval is infinite."""
        if len(values) < 2:
            return cls(values[0], -inf, inf)
        from scipy.stats import t

        quantile = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
        half = quantile * stdev(values) / sqrt(len(values))
        return cls(mean(values), mean(values) - half, mean(values) + half)

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    @property
    def finite(self) -> dict[str, float | None]:
        """As JSON, which has no infinity: None for an end that is infinite."""
        return {name: value if isfinite(value) else None for name, value in self._asdict().items()}
