"""A short soak: a server that is well passes, one that keeps what it is sent does not."""

import json
from collections.abc import Callable

import pytest

from tests.benchmarks.serving.soak import Sample, slope_mib_per_minute

SHORT = (
    "tests.benchmarks.serving.soak", "--minutes", 0.4, "--reload-every", 4,
    "--limit-mib-per-minute", 60, "--width", 0.1, "--crop", 112, "--classes", 10,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.alone
def test_memory_stays_where_it_is_while_models_change(run: Callable) -> None:
    done = run(*SHORT)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["passed"]
    assert len(found["by_model"]) == 2
    assert sum(found["by_model"].values()) == found["answers"] > 0


@pytest.mark.slow
@pytest.mark.alone
def test_a_planted_leak_is_found(run: Callable) -> None:
    done = run(*SHORT, "--minutes", 0.2, "--plant-leak")
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["slope_mib_per_minute"] > 60
    assert not found["flaws"], "it failed for another reason"


def test_a_slope_is_not_bent_by_peaks_and_warming_up() -> None:
    samples = [
        Sample(float(s), 100 + s / 60 + 500 * (s % 10 == 0) - max(0, 60 - s)) for s in range(300)
    ]
    assert slope_mib_per_minute(samples) == pytest.approx(1, abs=0.05)
