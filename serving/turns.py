"""Whose image is decoded next, where, and with how much memory."""

import asyncio
from collections.abc import Hashable

from serving.fair_queue import FairQueue


class Work:
    """One image to be decoded, for a client: its effort, in pixels, and the memory that it takes,
    both as its header has them."""

    def __init__(self, client: Hashable, effort: int, memory_bytes: int, is_large: bool) -> None:
        self.client = client
        self.effort, self.memory_bytes, self.is_large = effort, memory_bytes, is_large
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Turns:
    """Gives `places`, in an order that is fair to clients.

    Large work leaves one place, if there are several, to small work. All of it together takes
    `memory_bytes`: what waits for memory is passed by nothing, or it might wait for ever.
    """

    def __init__(self, places: int, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        """May change; what has begun goes on."""
        self._free, self._free_for_large = places, max(1, places - 1)
        self._taken_bytes = 0
        self._waiting: FairQueue[Work] = FairQueue()

    async def take(self, work: Work) -> None:
        """Wait for a turn, which lasts until `end`."""
        self._waiting.put(work, work.client, work.effort)
        self._begin()
        try:
            await work.turn
        except asyncio.CancelledError:
            if work.turn.done() and not work.turn.cancelled():
                self.end(work)
            self._waiting.drop(work)
            self._begin()
            raise

    def end(self, work: Work, effort: float = 0) -> None:
        """`effort` is what it has taken: its client is charged for what is more than was said."""
        self._waiting.charge(work.client, max(0, effort - work.effort))
        self._free += 1
        self._free_for_large += work.is_large
        self._taken_bytes -= work.memory_bytes
        self._begin()

    def _begin(self) -> None:
        for work in self._waiting:
            if not self._free:
                return
            if work.turn.done() or (work.is_large and not self._free_for_large):  # or cancelled
                continue
            taken_bytes = self._taken_bytes + work.memory_bytes
            if self._taken_bytes and taken_bytes > self.memory_bytes:
                return
            self._taken_bytes = taken_bytes
            self._free_for_large -= work.is_large
            self._free -= 1
            self._waiting.take(work)
            work.turn.set_result(None)
