"""A contender measured: its CPU time against a known load, its death reported."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alexnet.command import UserError
from tests.benchmarks.contender import Contender

pytestmark = pytest.mark.slow

BUSY_S = 0.2
TICKS_S = 4 * 0.01
"""User and system time, of a process and of its children: each is told in whole ticks."""


def used_s() -> float:
    """What the kernel says of this process and of its children that have ended."""
    kinds = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, kinds))


def busy(log: Path) -> Iterator[np.ndarray]:
    """Two images for 0.2 s of CPU here and as much in a process that has ended; a line of `log`
    says what was used when the work on them began, and when it ended."""
    code = f"import time\nwhile time.process_time() < {BUSY_S}: pass"
    while True:
        began_s = used_s()
        subprocess.run([sys.executable, "-S", "-c", code], check=True)
        end_s = time.process_time() + BUSY_S
        while time.process_time() < end_s:
            pass
        with log.open("a") as file:
            print(began_s, used_s(), file=file)
        yield np.zeros((2, 3, 4), np.float32)


def mortal() -> Iterator[np.ndarray]:
    yield np.zeros((1, 3))
    os._exit(1)


def test_a_window_counts_images_and_the_cpu_time_of_all_processes(tmp_path: Path) -> None:
    with Contender("busy", 1, busy, tmp_path / "log", environment={}) as contender:
        assert contender.kind == ("float32", (3, 4))
        measurement = contender.measured(1.0)
        contender.measured(0.0)
    _, warm_up, *measured, after = np.loadtxt(tmp_path / "log").tolist()
    assert measurement.wall_s >= 1.0
    assert measurement.count == 2 * len(measured)
    least, most = measured[-1][1] - measured[0][0], after[0] - warm_up[1]
    assert least - TICKS_S <= measurement.cpu_s <= most + TICKS_S


def test_a_contender_that_dies_is_named() -> None:
    with Contender("mortal", 1, mortal, environment={}) as contender:
        assert contender.kind == ("float64", (3,))
        with pytest.raises(UserError, match="mortal: the process ended"):
            contender.measured(1.0)
