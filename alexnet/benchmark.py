"""What benchmarks tell beside their figures: on what machine, and how far the rounds lie apart."""

import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypedDict


@dataclass(frozen=True)
class Spread:
    """Of one value a round."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        return cls(median(ordered), ordered[0], ordered[-1])


class Machine(TypedDict):
    """What contenders of a benchmark share."""

    cpu: str
    cores: int
    """How many this process may use."""
    memory_bytes: int


def machine() -> Machine:
    """This one, as Linux describes it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    return {
        "cpu": next(names, platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }
