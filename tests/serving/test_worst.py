"""The worst that a parser can be given at the limit of its size: others are answered beside."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.serving.conftest import Server
from tests.serving.connections import LIVEZ, Connection, head
from tests.serving.worst import FORMS, JSON, TARGETS, TYPES, filled, request

LONGEST_S = 5.0
"""Ten times what is promised: the clients of this test share the machine, and there are several."""
SENDERS = 4
"""Clients that send the same at once."""


@contextmanager
def heartbeat(server: Server) -> Iterator[list[float]]:
    """Seconds that each of a stream of new connections was not told that the server lives."""
    seconds: list[float] = []
    done = threading.Event()

    def beat() -> None:
        while not done.is_set():
            started = time.monotonic()
            with Connection(server.url) as connection:
                connection.send(LIVEZ)
                assert connection.answer().status == 200
            seconds.append(time.monotonic() - started)
            done.wait(0.01)

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield seconds
    finally:
        done.set()
        thread.join()


def refused(server: Server, sent: bytes, statuses: list[int]) -> None:
    with Connection(server.url) as connection:
        with suppress(ConnectionError):
            connection.send(sent)
        statuses.append(connection.answer().status)


@pytest.mark.slow
@pytest.mark.alone
def test_the_server_lives_while_it_parses_the_worst(server: Server) -> None:
    attacks = {name: request(body, b"application/json") for name, body in JSON.items()}
    form = b"multipart/form-data; boundary=b"
    attacks |= {name: request(body, form) for name, body in FORMS.items()}
    attacks |= {name: request(b"", form, target) for name, target in TARGETS.items()}
    attacks |= {name: request(b"--b", kind) for name, kind in TYPES.items()}
    attacks["chunks"] = filled(head(None), b"1\r\nx\r\n")
    late = {}
    for name, sent in attacks.items():
        statuses: list[int] = []
        with heartbeat(server) as seconds:
            senders = [
                threading.Thread(target=refused, args=(server, sent, statuses))
                for _ in range(SENDERS)
            ]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()
        assert len(statuses) == SENDERS, name
        assert all(400 <= status < 500 for status in statuses), (name, statuses)
        if max(seconds) > LONGEST_S:
            late[name] = max(seconds)
    assert not late, late
