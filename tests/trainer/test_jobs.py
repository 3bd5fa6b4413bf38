"""Runs that are sent to a cluster with a dashboard and a token, as people send them."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alexnet.checkpoint import load
from tests.conftest import ROOT
from tests.nodes import Cluster, ray_nodes

pytestmark = pytest.mark.slow
START_S = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with ray_nodes(dashboard=True) as cluster:
        cluster.start(cpus=1)
        yield cluster


@pytest.fixture
def ask(cluster: Cluster, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`python -m trainer WORDS` with the cluster's address and token."""

    def ask(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "trainer", *map(str, words)],
            cwd=ROOT, text=True, capture_output=True, timeout=300, check=False,
            env=os.environ | cluster.outside | environment,
        )  # fmt: skip

    return ask


@pytest.fixture
def train(dataset: Path, tmp_path: Path) -> list[str]:
    return [
        "train", "--data", str(dataset), "--name", "r", "--set", "size=128",
        "--set", "network.width=0.1", "--set", "network.crop=64", "--batch", "32",
        "--epochs", "40",
        "--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models"),
    ]  # fmt: skip


def test_sent_stopped_and_sent_again(ask: Callable, train: list[str], tmp_path: Path) -> None:
    def said(words: str) -> bool:
        return words in ask("status").stdout

    sent = ask("submit", "--detach", *train)
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout.startswith("r.1: sent to http://127.0.0.1:")
    deadline = time.monotonic() + START_S
    while not (tmp_path / "runs/r/metrics.jsonl").is_file() or not said("running"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    again = ask("submit", *train)
    assert again.returncode == 2
    assert "run r is running as r.1" in again.stderr
    assert ask("stop", "r").returncode == 0
    ended = ask("logs", "r")
    assert "stopped; to go on" in ended.stdout, ended
    assert ask("stop", "r").returncode == 2

    done = ask("submit", *train)
    assert done.returncode == 0, done
    assert "published" in done.stdout
    assert done.stdout.endswith("r.2: succeeded\n")
    assert load(tmp_path / "models/r").about.name == "r"


def test_mistakes_are_one_line(ask: Callable, train: list[str]) -> None:
    for words, environment, text in [
        (["submit", *train, "--epochs", "0"], {}, "0 is less than 1"),
        (["submit", "pack"], {}, "what can be submitted is `train`"),
        (["logs", "none"], {}, "no job of a run none"),
        (["status"], {"RAY_AUTH_TOKEN": "wrong" * 8}, "Invalid authentication token"),
        (["status"], {"RAY_API_SERVER_ADDRESS": "http://127.0.0.1:9"}, "no answer from a Ray head"),
    ]:
        done = ask(*words, **environment)
        assert done.returncode == 2, done
        assert text in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
