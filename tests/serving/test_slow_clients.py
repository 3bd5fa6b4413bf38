"""Clients that send slowly, or stop: the connection is closed, and nobody else notices."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

from tests.serving.conftest import READ_S, Server
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
        said = connection.drip(drip, every_s=0.2, for_s=8)
        return time.monotonic() - started, int(said[9:12]) if said else None


def upload_slowly(url: str, data: bytes) -> list[int]:
    """Twice on one connection, each in little less time than there is."""
    with Connection(url) as connection:
        statuses = []
        for _ in range(2):
            for start in range(0, len(data), len(data) // 6):
                connection.send(data[start : start + len(data) // 6])
                time.sleep(0.2)
            statuses.append(connection.answer().status)
        return statuses


def test_attacks_are_closed_while_others_are_served(hardy: Server, jpeg: bytes) -> None:
    url, names = hardy.url, [*ATTACKS, *ATTACKS]
    with load(url, jpeg, clients=1) as answers, ThreadPoolExecutor(20) as pool:
        ended = [pool.submit(attack, url, *ATTACKS[name]) for name in names]
        honest = pool.submit(upload_slowly, url, upload(jpeg))
        # Between requests uvicorn's five seconds are a client's right.
        kept = pool.submit(attack, url, LIVEZ, b"")
    for name, future in zip(names, ended, strict=True):
        seconds, status = future.result()
        assert seconds < READ_S + 1, name
        # The kernel may drop what was said where the client sends on.
        assert status in (408, None), name
    assert hardy.metric('serving_refused_total{code="slow"') == len(names)
    assert honest.result() == [200, 200]
    assert READ_S + 1 < kept.result()[0] < 7
    assert len(answers) > 5
    assert all(answer.response and answer.response.is_success for answer in answers)


def test_an_answer_may_take_longer_than_a_request(hardy: Server, jpeg: bytes) -> None:
    hardy.post("/classify", jpeg)
    with Connection(hardy.url) as connection:
        for decoder in hardy.decoders():
            decoder.suspend()
        connection.send(upload(jpeg))
        time.sleep(READ_S + 1)
        for decoder in hardy.decoders():
            decoder.resume()
        assert connection.answer().status == 200


def test_what_is_no_http_is_refused_as_all_else(hardy: Server) -> None:
    with Connection(hardy.url) as connection:
        connection.send(b"HELO server\r\n\r\n")
        answer = connection.answer()
        assert answer.status == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert json.loads(answer.body)["request_id"] == answer.headers["x-request-id"]
