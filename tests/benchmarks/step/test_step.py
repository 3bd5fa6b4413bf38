"""One round of the real benchmark, on a small network."""

import json
import os
from collections.abc import Callable

import pytest

from tests.benchmarks.step.__main__ import GOALS, main


@pytest.mark.slow
@pytest.mark.long
def test_one_round_of_everything(run: Callable) -> None:
    done = run(
        "tests.benchmarks.step", "--rounds", 1, "--seconds", 0.2, "--batch", 8, "--width", 0.1,
        "--crop", 64, "--curve-steps", 2, "--curve-batch", 4,
        env=os.environ | {"TORCHDYNAMO_DISABLE": "1"},  # compiling takes minutes, and is torch's
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    missing = {f"{name}, {kind}" for name in found["left_out"] for kind in ("forward", "step")}
    assert found["windows"].keys() >= {name for goal in GOALS for name in goal[:2]} - missing
    assert all(min(measurement.values()) > 0 for (measurement,) in found["windows"].values())
    workers = {f"{launcher}.{rank}" for launcher in ("ray", "torchrun") for rank in range(2)}
    assert found["memory_bytes"].keys() == workers
    assert all(0 < m["proportional"] <= m["peak"] for m in found["memory_bytes"].values())
    assert found["parity"]["steps"] == 2
    assert {"cpu", "cores", "memory_bytes"} == found["machine"].keys()


def test_a_batch_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--batch", "0"]) == 2
    assert "--batch is 0: expected at least 1" in capsys.readouterr().err
