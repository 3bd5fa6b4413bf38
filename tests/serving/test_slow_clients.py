"""Clients that send slowly, or stop: the connection is closed, and nobody else notices."""

import json
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.serving.conftest import (
    DEADLINE_S,
    KEEP_ALIVE_S,
    PATIENCE_S,
    READ_S,
    Server,
    wait_for,
)
from tests.serving.connections import LIVEZ, Connection, form, head, load, upload

# {attack: (sent at once, then again and again)}
ATTACKS = {
    "idle": (b"", b""),
    "half a header, then silence": (head(100)[:40], b""),
    "a header in drips": (b"POST /classify HTTP/1.1\r\nHost: server\r\nX-Drip: ", b"x"),
    "half a body, then silence": (head(100_000) + form(b"\xff" * 1000), b""),
    "a body in drips": (head(100_000) + form(b"\xff" * 1000), b"x"),
    "a chunked form in drips": (head(None) + b"a\r\n--b\r\nConte\r\n", b"1\r\nx\r\n"),
    "empty lines after an answer": (LIVEZ, b"\r\n"),
}


def attack(url: str, first: bytes, drip: bytes) -> tuple[float, int | None]:
    """Seconds until the server closed the connection, and what it said."""
    with Connection(url) as connection:
        started = time.monotonic()
        connection.send(first)
        if first == LIVEZ:
            assert connection.answer().status == 200
        said = connection.drip(drip, every_s=0.2, for_s=PATIENCE_S)
        return time.monotonic() - started, int(said[9:12]) if said else None


def upload_slowly(url: str, data: bytes) -> list[int]:
    """Six times on one connection: together they take more time than there is for each."""
    with Connection(url) as connection:
        statuses = []
        for _ in range(6):
            for start in range(0, len(data), len(data) // 6):
                connection.send(data[start : start + len(data) // 6])
                time.sleep(0.1)
            statuses.append(connection.answer().status)
        return statuses


@pytest.fixture(scope="module")
def kept(hardy: Server) -> Iterator[Future]:
    """A client that asks once and then keeps the connection, while other tests run."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit(attack, hardy.url, LIVEZ, b"")


def test_attacks_are_closed_while_others_are_served(
    hardy: Server, kept: Future, jpeg: bytes
) -> None:
    url, names = hardy.url, [*ATTACKS, *ATTACKS]
    with load(url, jpeg, clients=1) as answers, ThreadPoolExecutor(20) as pool:
        ended = [pool.submit(attack, url, *ATTACKS[name]) for name in names]
        honest = pool.submit(upload_slowly, url, upload(jpeg))
        wait_for(lambda: len(answers) > 5)
    for name, future in zip(names, ended, strict=True):
        seconds, status = future.result()
        assert seconds < PATIENCE_S, name
        # The kernel may drop what was said where the client sends on.
        assert status in (408, None), name
    assert hardy.metric('serving_refused_total{code="slow"') == len(names)
    assert honest.result() == 6 * [200]
    assert all(answer.response and answer.response.is_success for answer in answers)


def ready_decoders(server: Server) -> list[psutil.Process]:
    """Not those that are still starting, whose client may have left: they ignore SIGTERM once they
    are ready."""
    found = []
    for decoder in server.decoders():
        with suppress(OSError):  # it has just died
            status = Path(f"/proc/{decoder.pid}/status").read_text()
            (ignored,) = re.findall(r"SigIgn:\t(\w+)", status)
            found += [decoder] if int(ignored, 16) >> signal.SIGTERM - 1 & 1 else []
    return found


def test_an_answer_may_take_longer_than_a_request_up_to_its_deadline(
    hardy: Server, jpeg: bytes
) -> None:
    def ask() -> tuple[int, str, float]:
        started = time.monotonic()
        answer = hardy.post("/classify", jpeg)
        return answer.status_code, answer.json().get("setting"), time.monotonic() - started

    with ThreadPoolExecutor() as pool:
        while len(decoders := ready_decoders(hardy)) != 2:
            for future in [pool.submit(ask), pool.submit(ask)]:
                assert future.result()[0] == 200
        for decoder in decoders:
            decoder.suspend()
        asked = [pool.submit(ask) for _ in decoders]
        time.sleep(READ_S + 1)
        decoders[0].resume()
        results = [future.result() for future in asked]
    answered = [seconds for status, _, seconds in results if status == 200]
    late = [seconds for *refusal, seconds in results if refusal == [504, "SERVING_DEADLINE_S"]]
    assert len(answered) + len(late) == len(asked), results
    assert READ_S < min(answered, default=0) < DEADLINE_S < min(late, default=0), results


def test_what_is_no_http_is_refused_as_all_else(hardy: Server) -> None:
    with Connection(hardy.url) as connection:
        connection.send(b"HELO server\r\n\r\n")
        answer = connection.answer()
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.body)["request_id"] == answer.headers["x-request-id"]


def test_between_requests_a_connection_is_kept_for_a_while(kept: Future) -> None:
    seconds, said = kept.result()
    assert KEEP_ALIVE_S <= round(seconds) < PATIENCE_S
    assert said is None
