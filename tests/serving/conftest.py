"""A model small enough to answer in milliseconds, in this process and served by others."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest
import torch

from alexnet.checkpoint import About, Checkpoint, load, now
from alexnet.classes import ClassLabel
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.store.models import save
from alexnet.store.url import Place
from tests.conftest import ROOT

NETWORK = AlexNetConfig(classes=7, width=0.1, crop=64)
SIZE = 72
READ_S = 3
"""Time in which clients of `hardy` must send a request."""
KEEP_ALIVE_S = 5
"""Time for which `hardy` keeps a connection between requests."""
DEADLINE_S = 15
"""Time in which `hardy` must answer."""
PATIENCE_S = 240
"""Time for what a machine that is not busy does in seconds."""


def publish(
    models: Place,
    name: str = "tiny",
    step: int = 12,
    seed: int = 0,
    network: AlexNetConfig = NETWORK,
) -> Place:
    """Publish a network of seven classes, other weights for another seed; returns models/NAME."""
    torch.manual_seed(seed)
    model = AlexNet(network)
    torch.nn.init.normal_(model.fc8.weight, 0, 0.3)  # answers that differ from image to image
    about = About(
        name=name, step=step, network=network, size=network.crop * 9 // 8, dataset="d" * 64,
        recipe={}, versions={},
        classes=tuple(ClassLabel(id=f"n{i}", name=f"class {i}") for i in range(7)),
        trained_at=now(),
    )  # fmt: skip
    save(model.eval(), 100 * torch.rand(3, network.crop, network.crop), about, models)
    return models / name


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def checkpoint(model: Path) -> Checkpoint:
    return load(model)


class Server:
    """A server process, and a client that talks to it."""

    def __init__(self, process: subprocess.Popen, url: str) -> None:
        self.process, self.url = process, url
        self.client = httpx.Client(base_url=url, timeout=PATIENCE_S)

    def post(self, path: str, data: bytes, **options: object) -> httpx.Response:
        return self.client.post(path, files={"file": ("photo", data)}, **options)

    def metric(self, name: str) -> float:
        """Sum over the labels that begin as in `name`: serving_requests_total{route="/classify"."""
        lines = self.client.get("/metrics").raise_for_status().text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def decoders(self) -> list[psutil.Process]:
        """Those alive, of a server that is one process."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it has just died
                found += [child] if child.status() != psutil.STATUS_ZOMBIE else []
        return found

    def processes(self) -> list[psutil.Process]:
        """The server processes of one that is several."""
        found = []
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):  # it has just died
                found += [child] if "--multiprocessing-fork" in child.cmdline() else []
        return found


@contextmanager
def serve(*words: object, ready: bool = True, **environment: object) -> Iterator[Server]:
    """`python -m serving WORDS --port 0`, with SERVING_NAME=value for each of `environment`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", *map(str, words), "--port", "0"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env=os.environ | {f"SERVING_{n.upper()}": str(v) for n, v in environment.items()},
    )  # fmt: skip
    lines: list[str] = []
    server = drain = None
    try:
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"running on (http://\S+)", line):
                break
        else:
            raise AssertionError("".join(lines))
        # Nobody reads on: the pipe would fill up and the server stop at it.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        process.stderr.close()
        server = Server(process, found[1])
        if ready:
            wait_until_ready(server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        if server:
            server.client.close()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        if drain:
            drain.wait(PATIENCE_S)


def wait_until_ready(server: Server) -> None:
    def ready() -> bool:
        with suppress(httpx.TransportError):
            return server.client.get("/readyz").is_success
        return False

    wait_for(ready)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where tests publish what `hardy` serves: models/tiny."""
    return publish(tmp_path_factory.mktemp("models"), step=1)


@pytest.fixture(scope="session")
def hardy(published: Path) -> Iterator[Server]:
    """A server for tests of all that one must bear, and quick to notice."""
    settings = {
        "read_s": READ_S, "deadline_s": DEADLINE_S, "keep_alive_s": KEEP_ALIVE_S,
        "reload_s": 0.2, "decoders": 2,
    }  # fmt: skip
    with serve("--model", published, **settings, decode_s=PATIENCE_S) as server:
        yield server


@pytest.fixture(scope="session")
def pair(published: Path) -> Iterator[Server]:
    """A server of two processes."""
    with serve("--model", published, "--workers", 2, reload_s=0.2) as server:
        wait_for(lambda: server.metric("serving_reloads_total") == 2)
        yield server


@pytest.fixture(scope="session")
def server(model: Path) -> Iterator[Server]:
    """One for all tests that do it no harm."""
    with serve("--model", model, decode_s=PATIENCE_S, deadline_s=PATIENCE_S) as server:
        yield server
