"""The load generator and the process under it, against servers of a few lines."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alexnet.command import UserError
from tests.benchmarks.serving.load import Answer, closed_loop, multipart, open_loop
from tests.benchmarks.serving.process import Server

JPEG = b"not an image" * 1000
REQUEST = multipart("/classify", JPEG)
Loop = Callable[[int], Awaitable[list[Answer]]]


def against(loop: Loop, busy_s: float = 0, answers: int = sys.maxsize) -> list[Answer]:
    """Answers of a server that takes `busy_s` a request, one by one, and ends after `answers`."""
    turn = asyncio.Lock()
    serving: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answers
        serving.append(asyncio.current_task())
        while answers > 0:
            try:
                request = await reader.readexactly(len(REQUEST))
            except asyncio.IncompleteReadError:
                break
            assert JPEG in request
            async with turn:
                await asyncio.sleep(busy_s)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n")
            await writer.drain()
            writer.write(b"fine")
            answers -= 1
        writer.close()
        await writer.wait_closed()

    async def both() -> list[Answer]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            found = await loop(server.sockets[0].getsockname()[1])
        await asyncio.gather(*serving)
        return found

    return asyncio.run(both())


def test_a_closed_loop_asks_until_its_time_is_over_and_waits_for_the_rest() -> None:
    answers = against(lambda port: closed_loop(port, [REQUEST] * 3, 4, 0.2), busy_s=0.01)
    assert {(a.status, a.body) for a in answers} == {(200, b"fine")}
    assert {a.request for a in answers} == {0, 1, 2}
    assert 4 <= len(answers) <= 25
    assert all(a.latency_s >= 0.01 for a in answers)


def test_an_open_loop_asks_whether_or_not_it_was_answered() -> None:
    answers = against(lambda port: open_loop(port, [REQUEST], 100, 0.5, seed=0), busy_s=0.05)
    assert 25 <= len(answers) <= 80
    # Twenty a second are answered: the last has waited for nearly all before it.
    assert max(a.latency_s for a in answers) > 0.05 * len(answers) / 2


def test_a_server_that_goes_away_shows_in_the_answers() -> None:
    answers = against(lambda port: closed_loop(port, [REQUEST], 2, 5), answers=3)
    assert 3 <= sum(a.status == 200 for a in answers) <= 4
    assert sum(a.status == 0 for a in answers) == 2


def test_a_server_that_does_not_start_says_why() -> None:
    with (
        pytest.raises(UserError, match="No module named no_such_server"),
        Server("no_such_server", ready="/"),
    ):
        pass


def test_time_and_memory_count_all_processes() -> None:
    with Server("uvicorn", "--factory", "fastapi:FastAPI", ready="/openapi.json") as server:
        before_s, deadline_s = server.cpu_s(), time.monotonic() + 120
        while server.cpu_s() == before_s and time.monotonic() < deadline_s:
            server.get("/openapi.json")
        assert server.cpu_s() > before_s
        (memory,) = server.memory()
        assert 0 < memory.proportional_bytes <= memory.resident_bytes
    with pytest.raises(OSError, match="refused"):
        server.get("/openapi.json")
