"""The correctness checks, on a machine with a GPU; and the machinery that runs them, on any."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.gpu.__main__ import CORRECT, PACKED, main
from tests.gpu.check import Check, Finding, Setup, run

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


@pytest.fixture(scope="session")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    setup = Setup("cuda", tmp_path_factory.mktemp("gpu"))
    assert run(PACKED, setup, print).passed
    return setup


@on_gpu
@pytest.mark.parametrize("check", CORRECT, ids=lambda check: check.name)
def test_a_gpu_does_what_a_cpu_does(check: Check, setup: Setup) -> None:
    outcome = run(check, setup, print)
    assert outcome.passed, (outcome.error, [f for f in outcome.findings if not f.passed])


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


@pytest.mark.parametrize(
    ("function", "found", "error"),
    [
        (right, 2, ""),
        (wrong, 2, ""),
        (not_a_number, 1, ""),
        (raising, 1, "ValueError: on purpose"),
        (crashing, 1, "last words"),
        (hanging, 1, "took longer than 20 s"),
    ],
)
def test_a_check_ends_by_itself(function, found: int, error: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Whatever it does, what it found before is kept, and the next one can run."""
    said: list[dict] = []
    outcome = run(Check(function, 20), Setup("cpu", tmp_path), said.append)
    assert outcome.passed == (function is right)
    assert len(outcome.findings) == found
    assert error in outcome.error
    assert bool(error) == bool(outcome.error)
    assert len(said) == found + 1


def test_a_check_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["correct", "--device", "cpu", "--only", "everything", "--folder", str(tmp_path)]
    assert main(words) == 2
    assert "whole_images" in capsys.readouterr().err


def test_ctrl_c_ends_the_kit_with_its_table(tmp_path: Path) -> None:
    words = ["-m", "tests.gpu", "correct", "--device", "cpu", "--folder", str(tmp_path)]
    kit = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert kit.stdout
    began = json.loads(kit.stdout.readline())
    assert began["gpu"] is None
    assert began["torch"] == torch.__version__
    while not (tmp_path / "logs/packed.log").exists():
        assert kit.poll() is None
        time.sleep(0.1)
    os.killpg(kit.pid, signal.SIGINT)
    rest, _ = kit.communicate(timeout=60)
    assert "| packed | interrupted |" in rest
    assert rest.endswith("failed: packed\n")
    assert kit.returncode == 1
