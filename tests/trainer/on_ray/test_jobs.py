"""Runs that are sent to a cluster with a dashboard and a token, as people send them."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import ceil
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from alexnet import console
from alexnet.checkpoint import current, load
from alexnet.similar import FOLDER, read_about
from tests.conftest import ROOT
from tests.nodes import Cluster, ray_nodes
from trainer.arguments import COMMANDS
from trainer.on_ray.dashboard import VARIABLE

pytestmark = pytest.mark.slow
START_S = 300


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
            cwd=ROOT, text=True, capture_output=True, timeout=500, check=False,
            env=os.environ | cluster.outside | environment,
        )  # fmt: skip

    return ask


@pytest.fixture
def train(dataset: Path, tmp_path: Path) -> list[str]:
    return [
        "train", "--data", str(dataset), "--name", "r", "--set", "size=128",
        "--set", "network.width=0.1", "--set", "network.crop=64", "--batch", "32",
        "--schedule", "plateau", "--epochs", "5000",  # it is stopped, and ends with fewer
        "--runs", str(tmp_path / "runs"), "--models", str(tmp_path / "models"),
    ]  # fmt: skip


@contextmanager
def refusing_at_first(head: str, refusals: list[str]) -> Iterator[str]:
    """An address that passes on to `head`, after it has refused a job with each of `refusals`, as a
    head does whose node has not started all its processes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.pass_on(None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if refusals:
                self.answer(500, refusals.pop().encode())
            else:
                self.pass_on(body)

        def pass_on(self, body: bytes | None) -> None:
            request = Request(head + self.path, body, dict(self.headers), method=self.command)
            try:
                answer = urlopen(request, timeout=60)
            except HTTPError as error:
                answer = error
            with answer:
                self.answer(answer.status, answer.read())

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_sent_stopped_and_sent_again(
    ask: Callable, train: list[str], tmp_path: Path, cluster: Cluster
) -> None:
    def said(words: str) -> bool:
        return words in ask("status").stdout

    refusals = 2 * ["No available agent to submit job, please try again later."]
    with refusing_at_first(cluster.outside[VARIABLE], refusals) as address:
        sent = ask("submit", "--detach", *train, **{VARIABLE: address})
    assert not refusals
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

    metrics = (tmp_path / "runs/r/metrics.jsonl").read_text().splitlines()
    epoch = max(event["epoch"] for event in map(json.loads, metrics) if event["kind"] == "train")
    done = ask("submit", *train, "--epochs", ceil(epoch) + 1)
    assert done.returncode == 0, done
    assert "published" in done.stdout
    assert done.stdout.endswith("r.2: succeeded\n")
    assert load(tmp_path / "models/r").about.name == "r"


def test_an_index_is_built_as_a_job(
    ask: Callable, indexed: Path, dataset: Path, tmp_path: Path
) -> None:
    shutil.copytree(indexed.parent, tmp_path / "m", ignore=shutil.ignore_patterns(FOLDER))
    done = ask("submit", "index", tmp_path / "m", "--data", dataset)
    assert done.returncode == 0, done
    assert done.stdout.startswith("m.index.1: sent to ")
    assert done.stdout.endswith("m.index.1: succeeded\n")
    step = current(tmp_path / "m")
    assert read_about(step, load(step).about) is not None
    gone = ask("submit", "index", tmp_path / "m", "--data", tmp_path / "gone")
    assert gone.returncode == 1
    assert "gone/manifest.json: No such file" in gone.stdout


def test_what_cannot_be_sent_is_one_line(
    train: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for command, text in [
        ([*train, "--epochs", "0"], "--epochs is 0: expected more than 0"),
        (["pack"], "only `train` and `index` with their options can"),
    ]:
        assert console.run("alexnet", COMMANDS, arguments=["submit", *command]) == 2
        said = capsys.readouterr().err
        assert text in said
        assert said.count("\n") == 1, said


def test_mistakes_are_one_line(ask: Callable) -> None:
    for words, environment, text in [
        (["logs", "none"], {}, "no job of a run none"),
        (["status"], {"RAY_AUTH_TOKEN": "wrong" * 8}, "Invalid authentication token"),
    ]:
        done = ask(*words, **environment)
        assert done.returncode == 2, done
        assert text in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr
