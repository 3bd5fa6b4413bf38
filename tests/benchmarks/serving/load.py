"""Requests to a server: as fast as it answers, or at a rate of their own. HTTP/1.1, kept alive.

Lean, because it shares the machine with what it measures: requests are bytes made beforehand, and
of an answer no more is parsed than its status and its length.
"""

import asyncio
import random
import re
import time
from collections.abc import Coroutine, Iterator
from itertools import cycle
from typing import Any, NamedTuple, cast

import uvloop

BOUNDARY = b"a-boundary-that-no-image-holds"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HOST = "127.0.0.1"
KEEP_S = 2.0
"""Connections idle for longer are not used again: servers close them, at five seconds uvicorn."""


class Answer(NamedTuple):
    request: int
    """Which of the prepared requests was answered."""
    status: int
    """0: the connection broke; `body` says how."""
    latency_s: float
    """Time since it was due, so that a server that lags pays for those that wait behind."""
    body: bytes
    head: bytes = b""
    """Status line and headers."""
    due_s: float = 0
    """When the request was due, by time.perf_counter()."""


def multipart(path: str, jpeg: bytes) -> bytes:
    """A whole request: `jpeg` as form field `file`, as curl and browsers send it."""
    body = (
        b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n'
        b"Content-Type: image/jpeg\r\n\r\n" + jpeg + b"\r\n--" + BOUNDARY + b"--\r\n"
    )
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len(body)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\n\r\n"
    )
    return head.encode() + body


def ask(work: Coroutine[Any, Any, list[Answer]]) -> list[Answer]:
    """Run one of the loops below to its end."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def closed_loop(
    port: int, requests: list[bytes], connections: int, seconds: float
) -> list[Answer]:
    """Each connection sends the next request once it has its answer.

    After `seconds` those under way are waited for: the server is idle before and after, so that
    all it did belongs to these answers.
    """
    turns = cycle(enumerate(requests))
    end = time.perf_counter() + seconds
    each = await asyncio.gather(*(_keep_asking(port, turns, end) for _ in range(connections)))
    return [answer for answers in each for answer in answers]


async def open_loop(
    port: int, requests: list[bytes], rate_per_s: float, seconds: float, seed: int
) -> list[Answer]:
    """Requests arrive as from many people who know nothing of each other, answered or not."""
    idle: list[_Connection] = []
    gaps = random.Random(seed)
    start = due = time.perf_counter()
    under_way = []
    turns = cycle(enumerate(requests))
    while due < start + seconds:
        await asyncio.sleep(max(0, due - time.perf_counter()))
        under_way.append(asyncio.create_task(_ask_idle(port, idle, *next(turns), due)))
        due += gaps.expovariate(rate_per_s)
    answers = await asyncio.gather(*under_way)
    for connection in idle:
        connection.close()
    return answers


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._answer: asyncio.Future[tuple[bytes, bytes]] | None = None
        self._used_s = 0.0

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        loop = asyncio.get_running_loop()
        return (await loop.create_connection(cls, HOST, port))[1]

    @property
    def is_fresh(self) -> bool:
        return not self._transport.is_closing() and time.perf_counter() - self._used_s < KEEP_S

    async def ask(self, request: bytes) -> tuple[bytes, bytes]:
        """Head and body. Raises ConnectionError."""
        self._answer = asyncio.get_running_loop().create_future()
        self._received.clear()
        self._transport.write(request)
        answer = await self._answer
        self._used_s = time.perf_counter()
        return answer

    def close(self) -> None:
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0 or self._answer is None or self._answer.done():
            return
        length = LENGTH.search(self._received, 0, head + 2)
        if length is None:
            self._fail(ConnectionError("an answer without Content-Length"))
        elif len(self._received) >= (end := head + 4 + int(length[1])):
            answer = bytes(self._received[:end])
            self._answer.set_result((answer[:head], answer[head + 4 :]))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionError(error or "the server closed the connection"))

    def _fail(self, error: ConnectionError) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)


async def _keep_asking(port: int, turns: Iterator[tuple[int, bytes]], end: float) -> list[Answer]:
    idle: list[_Connection] = []
    answers = []
    while (due := time.perf_counter()) < end:
        answers.append(await _ask_idle(port, idle, *next(turns), due))
        if not answers[-1].status:
            break  # of a server that is gone there is nothing to ask
    for connection in idle:
        connection.close()
    return answers


async def _ask_idle(
    port: int, idle: list[_Connection], number: int, request: bytes, due: float
) -> Answer:
    """Ask on a connection of `idle`, to which it returns, or on a new one."""
    try:
        while idle:
            if (connection := idle.pop()).is_fresh:
                break
            connection.close()
        else:
            connection = await _Connection.open(port)
        head, body = await connection.ask(request)
        idle.append(connection)
    except OSError as error:
        head, body = b"", str(error).encode()
    latency_s = time.perf_counter() - due
    return Answer(number, int(head[9:12] or 0), latency_s, body, head, due)
