"""The correctness checks, on a machine with a GPU; and the command that runs them, on any."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.gpu.__main__ import CORRECT, PACKED, main
from tests.gpu.check import Check, Setup, run

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
