"""What is held, by whom, and who gives way."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from serving.room import NoRoomError, Room


async def holder(room: Room, client: str, amount: int, ended: list[str]) -> None:
    try:
        with room.hold(client, amount):
            await asyncio.sleep(120)
    except NoRoomError:
        ended.append(client)


def run(test: Callable[[], Coroutine]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def test_one_client_may_have_all_and_no_more() -> None:
    async def test() -> None:
        room = Room(10, "full")
        with room.hold("a", 10):
            with pytest.raises(NoRoomError, match="full") as refused, room.hold("a", 1):
                pass
            assert (refused.value.limit, refused.value.seen) == (10, 11)
        assert room.held == 0
        with pytest.raises(NoRoomError), room.hold("a", 11):
            pass
        assert room.held == 0

    run(test)


def test_who_holds_most_gives_way_with_its_newest() -> None:
    async def test() -> None:
        room, ended = Room(10, "full"), list[str]()
        tasks = [
            asyncio.create_task(holder(room, client, amount, ended))
            for client, amount in (("a", 3), ("a", 4), ("b", 3))
        ]
        await asyncio.sleep(0)
        room.check("c", 3)
        with room.hold("c", 3):
            await asyncio.wait([tasks[1]])
            assert ended == ["a"]
            assert not tasks[0].done()
            assert not tasks[2].done()
            assert room.held == 9
            with pytest.raises(NoRoomError):  # nobody would still hold more
                room.check("c", 2)
            room.check("d", 1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert room.held == 0

    run(test)


def test_what_needs_nothing_is_let_in_where_there_is_less_than_before() -> None:
    async def test() -> None:
        room = Room(10, "full")
        with room.hold("a", 10):
            room.capacity = 5
            with room.hold("a"), room.hold("b"):
                assert room.held == 10

    run(test)


def test_what_arrives_in_pieces_is_held_piece_by_piece() -> None:
    async def test() -> None:
        room = Room(10, "full")
        with room.hold("a") as held:
            held.grow(4)
            held.grow(6)
            with pytest.raises(NoRoomError):
                held.grow(1)
            assert held.amount == 10
        assert room.held == 0

    run(test)


def test_the_end_by_another_and_the_end_by_its_sender_are_told_apart() -> None:
    async def test() -> None:
        room, ended = Room(10, "full"), list[str]()
        both = asyncio.create_task(holder(room, "a", 10, ended))
        await asyncio.sleep(0)
        with room.hold("b", 1):  # ends the first
            both.cancel()  # and so does its sender
            with pytest.raises(asyncio.CancelledError):
                await both
        assert not ended
        left = asyncio.create_task(holder(room, "a", 10, ended))
        await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        assert room.held == 0

    run(test)


def test_a_task_that_was_ended_goes_on_after_its_block() -> None:
    async def test() -> None:
        room = Room(10, "full")

        async def again() -> str:
            try:
                with room.hold("a", 10):
                    await asyncio.sleep(120)
            except NoRoomError:
                task = asyncio.current_task()
                assert task
                assert not task.cancelling()
                await asyncio.sleep(0)
                return "went on"
            return "held"

        task = asyncio.create_task(again())
        await asyncio.sleep(0)
        with room.hold("b", 2):
            assert await task == "went on"

    run(test)
