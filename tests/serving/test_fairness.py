"""Clients that send all that they may, beside one that sends a photograph now and then."""

import io
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path

import httpx2 as httpx
import psutil
import pytest
from PIL import Image

from tests.serving.conftest import PATIENCE_S, Server, serve, wait_for

MEMORY = 1200 * 2**20
"""What the server may take: the least that leaves something for large images."""
GREEDY, ASKED = 12, 10
"""Connections of the greedy client, and requests of the modest one."""
SENT = 19_000_000
"""Bytes of the largest uploads."""


def large(form: str, side: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, form, **options)
    return file.getvalue()


def from_address(server: Server, number: int) -> httpx.Client:
    """A client with an address of its own, of those of this machine."""
    transport = httpx.HTTPTransport(local_address=f"127.0.0.{number}")
    return httpx.Client(base_url=server.url, transport=transport, timeout=PATIENCE_S)


def taken_bytes(server: Server) -> int:
    """By the server and its decoders, each page that they share counted once."""
    process = psutil.Process(server.process.pid)
    taken = 0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended
            taken += each.memory_full_info().pss
    return taken


@contextmanager
def greedy(server: Server, files: list[bytes], answers: Counter[int]) -> Iterator[None]:
    """All connections send the files in turn, for as long as the block takes."""
    done = threading.Event()

    def send(start: int) -> None:
        with from_address(server, 7) as client:
            for data in cycle(files[start:] + files[:start]):
                if done.is_set():
                    return
                response = client.post("/classify", files={"file": ("photo", data)})
                answers[response.status_code] += 1

    senders = [
        threading.Thread(target=send, args=(number % len(files),)) for number in range(GREEDY)
    ]
    for sender in senders:
        sender.start()
    try:
        yield
    finally:
        done.set()
        for sender in senders:
            sender.join()


@pytest.mark.slow
def test_a_greedy_client_takes_neither_the_server_nor_more_memory_than_it_has(
    model: Path, jpeg: bytes
) -> None:
    files = [
        large("WEBP", 4200, lossless=True),
        large("PNG", 4200),
        large("JPEG", 6000, progressive=True),
        jpeg + bytes(SENT - len(jpeg)),
    ]
    answers: Counter[int] = Counter()
    most = 0
    with serve(
        "--model", model, memory=MEMORY, decoders=2, decode_s=PATIENCE_S, deadline_s=PATIENCE_S,
        read_s=PATIENCE_S,
    ) as server:  # fmt: skip
        with greedy(server, files, answers), from_address(server, 1) as modest:
            wait_for(lambda: bool(answers))
            before = answers.total()
            for _ in range(ASKED):
                response = modest.post("/classify", files={"file": ("photo", jpeg)})
                assert response.status_code == 200, response.text
                most = max(most, taken_bytes(server))
            served = answers[200] - before
        assert 0 < most < MEMORY
        assert set(answers) <= {200, 413, 429}, answers
        # Each of the modest one's images waits for a few of the greedy one's, not for all.
        assert served <= 4 * ASKED
        refused = server.post("/classify", large("WEBP", 5700))
        assert refused.status_code == 413
        assert refused.json()["setting"] == "SERVING_MEMORY"
        assert server.post("/classify", jpeg).is_success
