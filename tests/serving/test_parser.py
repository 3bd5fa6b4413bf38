"""What is one request and what are two, and how large its head may be: as a real server sees it."""

from contextlib import suppress

import pytest

from serving.parser import CHUNKS, FIELDS, HEAD_BYTES
from tests.serving.conftest import Server
from tests.serving.connections import LIVEZ, Connection, form, head, upload

# As Java's HttpClient and curl --http2 propose, browsers, and nobody.
UPGRADES = [
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n",
    b"Upgrade: other/1, h2c\r\n",
]
SMUGGLED = b"DELETE /smuggled HTTP/1.1\r\nHost: server\r\n\r\n"
GET = b"GET /livez HTTP/1.1\r\nHost: server\r\n"
CHUNKED = head(None)


def statuses(server: Server, *segments: bytes) -> list[int]:
    """Of the answers to these bytes, and to one more request where the connection is kept."""
    found = []
    with Connection(server.url) as connection:
        for segment in segments:
            connection.send(segment)
        connection.send(with_fields(LIVEZ, b"Connection: close\r\n"))
        with suppress(ConnectionError):
            while True:
                found.append(connection.answer().status)
    return found


def with_fields(request: bytes, fields: bytes) -> bytes:
    return request.replace(b"Host: server\r\n", b"Host: server\r\n" + fields, 1)


@pytest.mark.parametrize("upgrade", UPGRADES)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_proposal_to_upgrade_is_passed_over_and_the_body_delivered(
    server: Server, jpeg: bytes, upgrade: bytes, chunked: bool
) -> None:
    """RFC 9110 §7.8. A body that is left over would be the next request."""
    for body, status in ((form(jpeg), 200), (SMUGGLED, 400)):
        framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body
        request = with_fields(head(None if chunked else len(body)), upgrade) + framed
        border = len(request) - len(framed)
        assert statuses(server, request) == [status, 200]
        for cut in (border - 3, border, border + 1):
            assert statuses(server, request[:cut], request[cut:]) == [status, 200], cut
        assert statuses(server, request + request[: border - 2], request[border - 2 :]) == [
            status, status, 200
        ]  # fmt: skip


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_every_route_answers_as_without_a_proposal_to_upgrade(
    server: Server, upgrade: bytes
) -> None:
    for path in server.client.get("/openapi.json").json()["paths"]:
        request = b"GET %s HTTP/1.1\r\nHost: server\r\n\r\n" % path.encode()
        with Connection(server.url) as connection:
            connection.send(request + with_fields(request, upgrade))
            plain, proposed = connection.answer(), connection.answer()
        assert plain.status == proposed.status, path
        assert plain.getheader("content-type") == proposed.getheader("content-type")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 400),
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 4\r\n\r\n") + b"0\r\n\r\n", 400),
        (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n", 400),
        (CHUNKED + b"1\r\nx\r\n" * 2 * CHUNKS, 400),
        (GET + b"A: b\r\n" * FIELDS + b"\r\n", 431),
        (GET + b"A: b\r\n" * 2 * FIELDS, 431),
        (GET + b"A: b\r\n c\r\n" * FIELDS, 431),
        (GET + b"A: " + b"a" * HEAD_BYTES, 431),
        (GET + b"A: " + b"a" * HEAD_BYTES + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * HEAD_BYTES, 431),
        (CHUNKED + b"1;" + b"a" * HEAD_BYTES, 431),
        (CHUNKED + b"0\r\nA: " + b"a" * HEAD_BYTES, 431),
        (CHUNKED + b"0\r\n" + b"A: b\r\n" * 2 * FIELDS + b"\r\n", 431),
    ],
)
def test_what_is_no_request_of_ours_ends_the_connection(
    server: Server, sent: bytes, status: int
) -> None:
    """While it arrives, or where it is sent all at once."""
    assert statuses(server, sent) == [status]
    with Connection(server.url) as connection:
        connection.send(sent)
        refusal = connection.answer()
        assert refusal.getheader("content-type") == "application/problem+json"


def test_heads_within_the_bounds_are_read(server: Server) -> None:
    full = GET + b"A: b\r\n" * (FIELDS - 1) + b"\r\n"
    assert statuses(server, full) == [200, 200]
    assert statuses(server, *(full[place : place + 1] for place in range(len(full)))) == [200, 200]
    assert statuses(server, GET + b"A: " + b"a" * (HEAD_BYTES - 200) + b"\r\n\r\n") == [200, 200]
    trailers = b"0\r\n" + b"A: b\r\n" * (FIELDS - 1) + b"\r\n"
    assert statuses(server, CHUNKED + trailers) == [400, 200]  # for an empty form


def test_a_proxy_may_ask_for_the_whole_address(server: Server) -> None:
    """RFC 9112 §3.2.2."""
    for target, status in ((b"http://other/livez", 200), (b"HTTP://other:1/nowhere?a", 404)):
        request = LIVEZ.replace(b"/livez", target)
        assert statuses(server, request) == [status, 200]


def test_an_empty_line_after_a_body_is_passed_over(server: Server, jpeg: bytes) -> None:
    assert statuses(server, upload(jpeg)) == [200, 200]
    with Connection(server.url) as connection:
        connection.send(b"\r\n" + upload(jpeg))
        assert connection.answer().status == 200
        connection.send(b"\r\n" + upload(jpeg))
        assert connection.answer().status == 200


def test_a_method_of_any_length_is_refused_in_few_words(server: Server) -> None:
    with Connection(server.url) as connection:
        connection.send(LIVEZ.replace(b"GET", b"GE" + 30_000 * b"T", 1))
        answer = connection.answer()
    assert answer.status == 405
    assert len(answer.body) < 1000
