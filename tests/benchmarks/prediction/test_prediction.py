"""One round of the real benchmark, with a small network."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.prediction.__main__ import GOALS


@pytest.mark.slow
@pytest.mark.long
def test_one_round(indexed: Path, photographs: Path, run: Callable) -> None:
    done = run("tests.benchmarks.prediction", indexed, photographs, "--rounds", 1)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["windows"].keys() == {name for goal in GOALS for name in goal[:2]}
    assert all(min(measurement.values()) > 0 for (measurement,) in found["windows"].values())
