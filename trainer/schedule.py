"""The learning rate as a function of how far the run is."""

from collections.abc import Sequence


def rate_at(progress: float, rates: Sequence[tuple[float, float]]) -> float:
    """Rate at `progress`, 0..1 of the run; `rates` lists (from which progress on, rate), rising."""
    return [rate for start, rate in rates if start <= progress][-1]
