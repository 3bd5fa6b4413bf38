"""What a run wrote down, read back."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.report import history
from trainer.run import RunError


def write(path: Path, events: list[dict]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def train(first: int, last: int) -> dict:
    """The look after step `last`, at the steps since `first`."""
    return {"kind": "train", "step": last, "samples": last - first}


@given(st.randoms(use_true_random=False), st.integers(0, 6))
def test_each_step_counts_once_however_often_it_is_repeated(
    tmp_path_factory: pytest.TempPathFactory, choice: random.Random, kills: int
) -> None:
    """Looks come after any number of steps; the first after a checkpoint comes after one."""
    written, step, steps = [], 0, 40
    looks = [0]
    while step < steps:
        if kills and choice.random() < 0.3:
            kills -= 1
            step = choice.choice([look for look in looks if look <= step])
            after = step + 1
        else:
            after = min(steps, step + choice.randint(1, 5))
        written.append(train(step, after))
        looks, step = [*(look for look in looks if look <= step), after], after
        if step in (20, steps):
            written += [{"kind": "val", "step": step, "views": views} for views in (1, 10)]
    path = write(tmp_path_factory.mktemp("history") / "metrics.jsonl", written)
    seen, validated = history(path)
    assert sum(event["samples"] for event in seen) == steps
    assert [event["step"] for event in seen] == sorted({event["step"] for event in seen})
    assert validated[-1]["step"] == steps


def test_half_a_line_is_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path / "metrics.jsonl", [train(0, 1)])
    path.write_text(path.read_text() + '{"kind": "tra\n' + json.dumps(train(1, 3)) + "\n")
    assert [event["step"] for event in history(path)[0]] == [1, 3]


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="check the run's name"):
        history(tmp_path / "metrics.jsonl")
