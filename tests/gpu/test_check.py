"""The machinery that runs checks, on any machine."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.gpu.check import Check, Finding, Setup, run


def right(setup: Setup) -> Iterator[Finding]:
    yield Finding("a", 1.0, at_most=1.0)
    yield Finding("measured", 7.0)


def wrong(setup: Setup) -> Iterator[Finding]:
    yield Finding("a", 2.0, at_most=1.0)
    yield Finding("b", 0.0, at_most=1.0)


def not_a_number(setup: Setup) -> Iterator[Finding]:
    yield Finding("a", float("nan"), at_most=1.0)


def raising(setup: Setup) -> Iterator[Finding]:
    yield Finding("a", 0.0)
    raise ValueError("on purpose")


def crashing(setup: Setup) -> Iterator[Finding]:
    yield Finding("a", 0.0)
    print("last words", flush=True)
    os.abort()


def hanging(setup: Setup) -> Iterator[Finding]:
    yield Finding("a", 0.0)
    time.sleep(1000)


EXPECTED = {
    # First, for it takes all its time: the others end beside it.
    hanging: (1, "took longer than 15 s"),
    right: (2, ""),
    wrong: (2, ""),
    not_a_number: (1, ""),
    raising: (1, "ValueError: on purpose"),
    crashing: (1, "last words"),
}
"""What is found, and the error."""


def test_a_check_ends_by_itself(tmp_path: Path) -> None:
    """Whatever it does, what it found before is kept, and the next one can run."""
    said: dict[str, list[dict]] = {function.__name__: [] for function in EXPECTED}
    setup = Setup("cpu", tmp_path)
    with ThreadPoolExecutor(2) as pool:
        outcomes = pool.map(
            lambda function: run(Check(function, 15), setup, said[function.__name__].append),
            EXPECTED,
        )
    for (function, (found, error)), outcome in zip(EXPECTED.items(), outcomes, strict=True):
        assert outcome.passed == (function is right), outcome
        assert len(outcome.findings) == found, outcome
        assert error in outcome.error
        assert bool(error) == bool(outcome.error)
        assert len(said[outcome.check]) == found + 1
