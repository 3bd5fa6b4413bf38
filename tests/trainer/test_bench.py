"""One round of the real benchmark, on a small network."""

import json
import os
from collections.abc import Callable

import pytest

from trainer.bench import GOALS, main


@pytest.mark.slow
@pytest.mark.long
def test_one_round_of_everything(run: Callable) -> None:
    done = run(
        "trainer.bench", "--rounds", 1, "--seconds", 0.2, "--batch", 8, "--width", 0.1,
        "--crop", 64, "--curve-steps", 2, "--curve-batch", 4,
        env=os.environ | {"TORCHDYNAMO_DISABLE": "1"},  # compiling takes minutes, and is torch's
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout.splitlines()[-1])
    missing = {f"{name}, {kind}" for name in scores["left_out"] for kind in ("forward", "step")}
    names = {name for goal in GOALS for name in goal[:2]} - missing
    assert {rate["contender"] for rate in scores["rates"]} >= names
    assert all(rate["images_per_core_s"]["low"] > 0 for rate in scores["rates"])
    workers = {f"{launcher}.{rank}" for launcher in ("ray", "torchrun") for rank in range(2)}
    assert scores["memory_bytes"].keys() == workers
    assert all(0 < m["proportional"] <= m["peak"] for m in scores["memory_bytes"].values())
    assert scores["parity"]["steps"] == 2
    assert {"cpu", "cores", "memory_bytes"} == scores["machine"].keys()


def test_a_batch_of_nothing_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--batch", "0"]) == 2
    assert "must be above zero" in capsys.readouterr().err
