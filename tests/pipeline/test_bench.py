"""One round of the real benchmark, on a small dataset."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.bench import GOALS, main


@pytest.mark.slow
@pytest.mark.long
def test_one_round_of_everything(
    dataset: Path, photographs: Path, tmp_path: Path, run: Callable
) -> None:
    done = run(
        "pipeline.bench", dataset, "--source", photographs, "--rounds", 1, "--seconds", 0.3,
        "--crop", 112, "--batch", 16, "--picture", tmp_path / "plots" / "loader",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout.splitlines()[-1])
    names = {name for goal in GOALS for name in goal[:2]}
    assert {rate["contender"] for rate in scores["rates"]} == names
    assert all(rate["images_per_core_s"]["low"] > 0 for rate in scores["rates"])
    assert [(r["ours"], r["peer"]) for r in scores["ratios"]] == [goal[:2] for goal in GOALS]
    assert scores["options"]["crop"] == 112
    assert {"cpu", "cores", "memory_bytes"} == scores["machine"].keys()
    for suffix in ("png", "svg"):
        assert (tmp_path / "plots" / f"loader.{suffix}").stat().st_size > 1000


def test_a_crop_larger_than_the_pictures_is_refused(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(dataset)]) == 2
    assert "--crop is 224, but images have 128 pixels" in capsys.readouterr().err
