"""One round of the real benchmark on a small network; what it takes for a wrong answer."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from alexnet.model import AlexNetConfig
from tests.benchmarks.serving import trial
from tests.benchmarks.serving.__main__ import (
    ALONE,
    BATCHING,
    DECODING_FRONT,
    DECODING_UPLOAD,
    EQUAL,
    FRONT,
    GOALS,
    NAIVE,
    OURS,
    UPLOAD,
    main,
)
from tests.benchmarks.serving.contenders import Guesses, Typical
from tests.benchmarks.serving.load import Answer


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("answers", {OURS, ALONE, NAIVE, BATCHING, EQUAL}),
        ("front", {FRONT, UPLOAD, DECODING_FRONT, DECODING_UPLOAD}),
    ],
)
def test_one_round(part: str, names: set[str], run: Callable) -> None:
    done = run(
        "tests.benchmarks.serving", part, "--rounds", 1, "--seconds", 0.4, "--width", 0.1,
        "--crop", 112, "--classes", 10, "--connections", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *printed, last = done.stdout.splitlines()
    found = json.loads(last)
    assert found["windows"].keys() == names
    for name, (visit,) in found["windows"].items():
        assert any(line.startswith(f"| {name} |") for line in printed)
        assert min(visit[field] for field in ("count", "wall_s", "cpu_s")) > 0
        if name != ALONE:
            assert visit["cold_start_s"] > 0
            for memory in visit["idle"] + visit["loaded"]:
                assert 0 < memory["proportional_bytes"] <= memory["resident_bytes"]
        assert bool(visit["latency_s"]) == (name in (OURS, NAIVE))
        assert all(latency_s > 0 for latency_s in visit["latency_s"])
    assert [(r["first"], r["second"]) for r in found["ratios"]] == [
        (goal.first, goal.second) for goal in GOALS if goal.first in names
    ]
    assert all(ratio["ratio"]["low"] > 0 for ratio in found["ratios"])
    assert {"cpu", "cores", "memory_bytes"} == found["machine"].keys()


def test_the_naive_network_is_the_same_and_a_wrong_answer_is_seen(tmp_path: Path) -> None:
    made = trial.publish(tmp_path, AlexNetConfig(width=0.1, crop=112, classes=10), seed=0)
    jpegs = trial.photographs()[:2]
    truth = trial.Truth(made, jpegs)
    typical = Typical(tmp_path / trial.NAME)
    probability_NK = typical.probabilities(torch.stack([typical.views(jpeg) for jpeg in jpegs]))
    assert (probability_NK[0] - probability_NK[1]).abs().max() > 10 * trial.TOLERANCE
    for number, probability_K in enumerate(probability_NK):
        body = Guesses.of(probability_K, made.about).model_dump_json().encode()
        assert truth.flaw(Answer(number, 200, 0.1, body)) is None
        assert "a probability is wrong by 0." in str(truth.flaw(Answer(1 - number, 200, 0.1, body)))
        assert "status 500" in str(truth.flaw(Answer(number, 500, 0.1, body)))


def test_no_round_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rounds", "0"]) == 2
    assert "--rounds is 0: expected at least 1" in capsys.readouterr().err
