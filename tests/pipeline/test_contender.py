"""A contender measured: its CPU time against a known load, its death reported."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from alexnet.command import UserError
from pipeline.contender import Contender

BUSY_S = 0.2


def busy() -> Iterator[np.ndarray]:
    """Two pictures for 0.2 s of CPU here and as much in a process that has ended."""
    code = f"import time\nwhile time.process_time() < {BUSY_S}: pass"
    while True:
        subprocess.run([sys.executable, "-S", "-c", code], check=True)
        end_s = time.process_time() + BUSY_S
        while time.process_time() < end_s:
            pass
        yield np.zeros((2, 3, 4), np.float32)


def mortal() -> Iterator[np.ndarray]:
    yield np.zeros((1, 3))
    os._exit(1)


def test_a_window_counts_pictures_and_the_cpu_time_of_all_processes() -> None:
    with Contender("busy", 1, busy, environment={}) as contender:
        assert contender.kind == ("float32", (3, 4))
        window = contender.window(1.0)
    assert window.wall_s >= 1.0
    assert window.cpu_s / window.images == pytest.approx(BUSY_S, rel=0.25)


def test_a_contender_that_dies_is_named() -> None:
    with Contender("mortal", 1, mortal, environment={}) as contender:
        assert contender.kind == ("float64", (3,))
        with pytest.raises(UserError, match="mortal: its process ended"):
            contender.window(1.0)
