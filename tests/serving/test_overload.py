"""Three times as many requests as the server can answer, for thirty seconds."""

import multiprocessing
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from alexnet.model import AlexNetConfig
from tests.benchmarks.serving.load import Answer, ask, closed_loop, multipart, open_loop
from tests.serving.conftest import Server, publish, serve
from tests.serving.connections import LIVEZ, Connection

NETWORK = AlexNetConfig(classes=7, width=0.25)
SECONDS = 30
QUEUE, BATCH = 16, 8
"""Images that may wait, and images of one forward pass."""
WARM_S = 20
"""Until then memory may grow as it likes: the peaks of two batches at once meet by chance."""
MOST_GROWTH = 64 * 2**20


def at_capacity(port: int, request: bytes, seconds: float) -> list[Answer]:
    return ask(closed_loop(port, [request], 12, seconds))


def beyond_it(port: int, request: bytes, rate_per_s: float) -> list[Answer]:
    return ask(open_loop(port, [request], rate_per_s, SECONDS, seed=0))


@contextmanager
def beside(measure: Callable[[], float], every_s: float) -> Iterator[list[float]]:
    """What is measured again and again for as long as the block takes."""
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(every_s):
            samples.append(measure())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def livez_s(connection: Connection) -> float:
    started = time.monotonic()
    connection.send(LIVEZ)
    assert connection.answer().status == 200
    return time.monotonic() - started


def resident_bytes(server: Server) -> int:
    process = psutil.Process(server.process.pid)
    return sum(each.memory_info().rss for each in (process, *process.children(recursive=True)))


def waited_for(answers: list[Answer]) -> tuple[np.ndarray, np.ndarray]:
    """How many due before each one had no answer yet when it was due, and how many due
    later were answered before it."""
    due = np.array([answer.due_s for answer in answers])
    ended = due + [answer.latency_s for answer in answers]
    earlier = due[:, None] > due  # [its own, the other's]
    ahead = (earlier & (ended > due[:, None])).sum(1)
    overtaking = (earlier.T & (ended < ended[:, None])).sum(1)
    return ahead, overtaking


@pytest.mark.slow
@pytest.mark.alone
def test_three_times_its_capacity(tmp_path: Path, jpeg: bytes) -> None:
    model = publish(tmp_path, network=NETWORK)
    request = multipart("/classify", jpeg)
    # In a process of their own: clients that wait for Python's lock would measure themselves.
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(1, context) as clients,
        serve("--model", model, queue_pictures=QUEUE, max_files=QUEUE) as server,
    ):
        port = int(server.url.rsplit(":", 1)[1])
        capacity_per_s = len(clients.submit(at_capacity, port, request, 4).result()) / 4
        with (
            Connection(server.url) as probe,
            beside(lambda: livez_s(probe), every_s=0.05) as alive_s,
            beside(lambda: resident_bytes(server), every_s=0.5) as resident,
        ):
            answers = clients.submit(beyond_it, port, request, 3 * capacity_per_s).result()
        ended = time.monotonic()
        while True:
            asked = time.monotonic()
            normal = server.post("/classify", jpeg).is_success
            if normal and time.monotonic() - asked < BATCH / capacity_per_s:
                break
        assert time.monotonic() - ended < 5

    accepted = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    assert len(accepted) + len(refused) == len(answers)
    for answer in refused:
        assert int(re.search(rb"\r\nretry-after: (\d+)", answer.head)[1]) >= 1
        assert b"\r\ncontent-type: application/problem+json" in answer.head

    throughput_per_s = len(accepted) / SECONDS
    latency_s = [answer.latency_s for answer in accepted]
    assert throughput_per_s > capacity_per_s / 2
    assert np.median(latency_s) < (QUEUE + BATCH) / throughput_per_s
    # The same for the slowest, but in answers: a machine that others use too has no one pace, and
    # of two batches that run at once it may slow one.
    for others in waited_for(accepted):
        assert np.percentile(others, 99) <= QUEUE + BATCH
    assert np.percentile(alive_s, 99) < 0.1
    # Peaks: from batch to batch memory comes and goes.
    warm = round(len(resident) * WARM_S / SECONDS)
    assert max(resident[warm:]) - max(resident[:warm]) < MOST_GROWTH
