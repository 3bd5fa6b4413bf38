"""One round of the real benchmark, on a small dataset; peers do the same work."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.shard import ShardPlan
from pipeline.sources import open_source
from pipeline.sources.source import VAL_FRACTION
from tests.benchmarks.loader.__main__ import GOALS, main
from tests.benchmarks.loader.contenders import our_packing, pillow_packing


@pytest.mark.slow
@pytest.mark.long
def test_one_round_of_everything(
    dataset: Path, photographs: Path, tmp_path: Path, run: Callable
) -> None:
    done = run(
        "tests.benchmarks.loader", dataset, "--source", photographs, "--rounds", 1,
        "--seconds", 0.3, "--crop", 112, "--batch", 16, "--picture", tmp_path / "plots" / "loader",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["windows"].keys() == {name for goal in GOALS for name in goal[:2]}
    assert all(min(measurement.values()) > 0 for (measurement,) in found["windows"].values())
    assert [(r["first"], r["second"]) for r in found["ratios"]] == [goal[:2] for goal in GOALS]
    assert found["options"]["crop"] == 112
    assert {"cpu", "cores", "memory_bytes"} == found["machine"].keys()
    for suffix in ("png", "svg"):
        assert (tmp_path / "plots" / f"loader.{suffix}").stat().st_size > 1000


def test_a_crop_larger_than_the_images_is_refused(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(dataset)]) == 2
    assert "--crop is 224, but images have 128 pixels" in capsys.readouterr().err


def test_the_packing_loop_makes_the_same_jpegs(photographs: Path, tmp_path: Path) -> None:
    source = open_source(str(photographs), VAL_FRACTION, None)
    plan = ShardPlan("train", 0, source.splits["train"][:9], 128)
    ours = our_packing(source.reader, plan, tmp_path)
    loop = pillow_packing([Path(sample.location) for sample in plan.samples], 128)
    assert next(ours).tolist() == next(loop).tolist()
