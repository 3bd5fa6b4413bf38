"""Whose turn it is."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from serving.turns import Turns, Work

LARGE, SMALL = 100, 1


def run(test: Callable[[], Coroutine]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


class Waiting:
    """Pieces of work that wait for their turns."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.works: dict[str, Work] = {}
        self.tasks: dict[str, asyncio.Task] = {}

    async def add(self, name: str, effort: int, memory_bytes: int = 10) -> None:
        work = self.works[name] = Work(
            name.split()[0], effort, memory_bytes, is_large=effort == LARGE
        )
        self.tasks[name] = asyncio.create_task(self.turns.take(work))
        await asyncio.sleep(0)

    async def begun(self) -> set[str]:
        await asyncio.sleep(0)
        return {name for name, task in self.tasks.items() if task.done()}

    async def end(self, name: str) -> None:
        self.turns.end(self.works.pop(name))
        del self.tasks[name]
        await asyncio.sleep(0)


def test_large_work_leaves_a_place_to_small_work() -> None:
    async def test() -> None:
        waiting = Waiting(Turns(2, 1000))
        await waiting.add("bad 1", LARGE)
        await waiting.add("bad 2", LARGE)
        assert await waiting.begun() == {"bad 1"}
        await waiting.add("good 1", SMALL)
        assert await waiting.begun() == {"bad 1", "good 1"}
        await waiting.end("bad 1")
        assert await waiting.begun() == {"good 1", "bad 2"}

    run(test)


def test_who_takes_more_than_was_said_waits_for_it() -> None:
    async def test() -> None:
        waiting = Waiting(Turns(1, 1000))
        for number in range(1, 4):
            await waiting.add(f"bad {number}", SMALL)
        for number in range(1, 4):
            await waiting.add(f"good {number}", SMALL)
        waiting.turns.end(waiting.works.pop("bad 1"), 2.5 * SMALL)
        order = []
        for _ in range(5):
            (name,) = await waiting.begun() - {"bad 1"}
            order.append(name)
            await waiting.end(name)
        assert order == ["good 1", "good 2", "good 3", "bad 2", "bad 3"]

    run(test)


def test_one_place_takes_either() -> None:
    async def test() -> None:
        waiting = Waiting(Turns(1, 1000))
        await waiting.add("bad 1", LARGE)
        await waiting.add("bad 2", LARGE)
        await waiting.add("good 1", SMALL)
        await waiting.end("bad 1")
        assert await waiting.begun() == {"good 1"}

    run(test)


@pytest.mark.parametrize("effort", [LARGE, SMALL])
def test_what_waits_for_memory_is_not_passed_by(effort: int) -> None:
    async def test() -> None:
        waiting = Waiting(Turns(4, 100))
        await waiting.add("a 1", LARGE, 60)
        await waiting.add("b 1", effort, 60)
        await waiting.add("c 1", LARGE, 30)
        await waiting.add("d 1", SMALL, 10)
        assert await waiting.begun() == {"a 1"}
        await waiting.end("a 1")
        assert await waiting.begun() == {"b 1", "c 1", "d 1"}

    run(test)


def test_less_memory_than_before_keeps_nobody_waiting_for_ever() -> None:
    async def test() -> None:
        turns = Turns(2, 100)
        waiting = Waiting(turns)
        await waiting.add("a 1", LARGE, 100)
        await waiting.add("a 2", LARGE, 100)
        turns.memory_bytes = 50
        await waiting.end("a 1")
        assert await waiting.begun() == {"a 2"}

    run(test)


@pytest.mark.parametrize("effort", [LARGE, SMALL])
def test_who_leaves_holds_no_place(effort: int) -> None:
    async def test() -> None:
        waiting = Waiting(Turns(1, 1000))
        await waiting.add("a 1", effort)
        await waiting.add("a 2", effort)
        await waiting.add("a 3", effort)
        waiting.tasks["a 2"].cancel()
        waiting.turns.end(waiting.works["a 1"])
        # Cancelled in the moment in which it is given its turn.
        assert waiting.works["a 3"].turn.done()
        waiting.tasks["a 3"].cancel()
        await asyncio.gather(*waiting.tasks.values(), return_exceptions=True)
        await waiting.add("a 4", effort)
        assert "a 4" in await waiting.begun()

    run(test)
