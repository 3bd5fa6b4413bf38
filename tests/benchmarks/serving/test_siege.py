"""A short siege: what is found is told, and no answer is wrong."""

import json
from collections.abc import Callable

import pytest


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.alone
def test_all_attacks_are_made_and_no_answer_is_wrong(run: Callable) -> None:
    done = run(
        "tests.benchmarks.serving.siege", "--minutes", 0.3, "--quiet-minutes", 0.1,
        "--width", 0.1, "--crop", 112, "--classes", 10,
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(found["attacks"].values()), found["attacks"]
    for phase in ("quiet", "attacked", "after"):
        assert found[phase]["answers"] > 0
        assert not found[phase]["wrong"]
        assert not found[phase]["beats_missed"]
