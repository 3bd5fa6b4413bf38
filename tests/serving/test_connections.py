"""Connections that nobody needs are closed in every phase, and are bounded: others are served."""

import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from serving.connections import SPARE, address_of
from tests.serving.conftest import PATIENCE_S, READ_S, Server, serve, wait_for
from tests.serving.connections import LIVEZ, Connection, form, head, upload

MOST = 8
FILES = 256
NOWHERE = b"POST /nowhere HTTP/1.1\r\nHost: server\r\nContent-Length: 1000\r\n\r\n" + b"x" * 100
"""Refused before its body has arrived, as one without a key is."""


@pytest.fixture(scope="module")
def narrow(model: Path) -> Iterator[Server]:
    """A server of few connections, which it keeps for longer than tests take."""
    settings = {"max_connections": MOST, "keep_alive_s": 3600, "read_s": READ_S, "write_s": 1}
    with serve("--model", model, **settings) as server:
        server.client.close()  # or else it has one of the connections
        yield server


@contextmanager
def opened(server: Server, count: int, sent: bytes, **options: str) -> Iterator[list[Connection]]:
    with ExitStack() as stack:
        connections = []
        for _ in range(count):
            connections.append(stack.enter_context(Connection(server.url, **options)))
            connections[-1].send(sent)
        yield connections


def is_alive(server: Server) -> bool:
    """As someone sees it who has no connection yet."""
    with Connection(server.url) as connection:
        connection.send(LIVEZ)
        return connection.answer().status == 200


def ended(connection: Connection) -> bool:
    """The server closes it, whatever it says before."""
    with suppress(ConnectionError):
        while connection.socket.recv(1 << 16):
            pass
    return True


def test_those_that_rest_are_closed_for_new_ones(narrow: Server) -> None:
    with opened(narrow, 2 * MOST, LIVEZ) as connections:
        for connection in connections:
            with suppress(ConnectionError):  # closed for a later one
                assert connection.answer().status == 200
        assert ended(connections[0])
        assert is_alive(narrow)


def test_beyond_the_bound_health_is_told_and_all_else_gets_503(narrow: Server, jpeg: bytes) -> None:
    """An address has half of all connections, of which none can be closed for others here."""
    parked = upload(jpeg)[:-100]
    with opened(narrow, MOST // 2, parked), Connection(narrow.url) as late:
        late.send(upload(jpeg))
        refusal = late.answer()
        assert refusal.status == 503
        assert refusal.getheader("retry-after") == "1"
        assert b"too-many-connections" in refusal.body
        late.send(LIVEZ)
        assert late.answer().status == 200
        assert is_alive(narrow)
        with Connection(narrow.url, source="127.0.0.2") as other:
            other.send(upload(jpeg))
            assert other.answer().status == 200
        with opened(narrow, 2 * SPARE, b""):  # more than are kept beyond the bound
            assert is_alive(narrow)
    with Connection(narrow.url) as late:
        late.send(upload(jpeg))
        assert late.answer().status == 200


def test_an_answer_before_the_end_of_the_body_leaves_no_connection_behind(narrow: Server) -> None:
    with opened(narrow, 3, NOWHERE) as (silent, whole, dripping):
        for connection in (silent, whole, dripping):
            assert connection.answer().status == 404
        whole.send(b"x" * 900 + LIVEZ)
        assert whole.answer().status == 200
        assert dripping.drip(b"x", every_s=0.1, for_s=PATIENCE_S) == b""
        assert ended(silent)
        whole.send(LIVEZ)  # it has waited longer than READ_S, as a client in a pool does
        assert whole.answer().status == 200


@pytest.mark.parametrize("answers", [1, 20])
def test_those_who_do_not_read_their_answers_are_closed(narrow: Server, answers: int) -> None:
    process = psutil.Process(narrow.process.pid)
    assert is_alive(narrow)
    before = process.num_fds()
    request = b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: server\r\n\r\n"
    with opened(narrow, 3, answers * request):
        wait_for(lambda: process.num_fds() > before)
        wait_for(lambda: process.num_fds() <= before)


def test_reading_a_little_does_not_extend_the_time(narrow: Server) -> None:
    request = b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: server\r\n\r\n"
    with opened(narrow, 1, 100 * request) as (dripping,):
        deadline = time.monotonic() + PATIENCE_S
        with suppress(ConnectionError):
            while dripping.socket.recv(1 << 15):
                assert time.monotonic() < deadline
                time.sleep(0.05)


def test_a_request_behind_a_slow_one_has_its_own_time(hardy: Server, jpeg: bytes) -> None:
    behind = form(b"\xff" * 500_000)
    with Connection(hardy.url) as connection, ExitStack() as stack:
        hardy.post("/classify", jpeg)
        for decoder in hardy.decoders():
            decoder.suspend()
            stack.callback(decoder.resume)
        connection.send(upload(jpeg) + head(len(behind)) + behind[:1000])
        time.sleep(READ_S + 1)
        stack.close()
        connection.send(behind[1000:])
        assert [connection.answer().status, connection.answer().status] == [200, 415]


def test_more_connections_than_files_leave_health_within_reach(model: Path) -> None:
    with ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, hard))
        try:
            server = stack.enter_context(serve("--model", model, read_s=PATIENCE_S, decoders=1))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for sent in (b"", LIVEZ, NOWHERE, head(1000)):
            with opened(server, 2 * FILES, sent):
                assert is_alive(server)
                assert psutil.Process(server.process.pid).num_fds() < FILES
        # All at once, without a turn for the server between them.
        burst = [socket.socket() for _ in range(2 * FILES)]
        server.process.send_signal(signal.SIGSTOP)
        for one in burst:
            stack.callback(one.close)
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(("127.0.0.1", int(server.url.rsplit(":", 1)[1])))
        server.process.send_signal(signal.SIGCONT)
        assert is_alive(server)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_network_is_one_address(host: str, address: str) -> None:
    assert address_of(host) == address


def test_what_a_refused_client_goes_on_sending_is_read_at_leisure(hardy: Server) -> None:
    """Read as fast as it comes, it would be gigabytes within the time that the client is given."""
    piece, sent = bytes(2**16), 0
    with Connection(hardy.url) as connection:
        connection.send(b"no HTTP\r\n\r\n")
        assert connection.answer().status == 400
        with suppress(ConnectionError):
            while sent < 2**28:
                connection.send(piece)
                sent += len(piece)
    assert sent < 2**28
