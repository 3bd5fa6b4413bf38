"""Whose image is decoded next, where, and with how much memory."""

import asyncio
from collections.abc import Hashable

from serving.fair_queue import FairQueue


class Work:
    """One image to be decoded: its effort, in pixels, and the memory that it takes."""

    def __init__(self, effort: int, memory_bytes: int, is_large: bool) -> None:
        self.effort, self.memory_bytes, self.is_large = effort, memory_bytes, is_large
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Turns:
    """Gives `places`, in an order that is fair to clients.

    Small work waits for a place alone. Large work has `memory_bytes` in all, and leaves one place,
    if there are several, to small work; none of it passes other large work by.
    """

    def __init__(self, places: int, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes
        """May change; what has begun goes on."""
        self._free, self._free_for_large = places, max(1, places - 1)
        self._taken_bytes = 0
        self._waiting: FairQueue[Work] = FairQueue()

    async def take(self, work: Work, client: Hashable) -> None:
        """Wait for a turn, which lasts until `end`."""
        self._waiting.put(work, client, work.effort)
        self._begin()
        try:
            await work.turn
        except asyncio.CancelledError:
            if work.turn.done() and not work.turn.cancelled():
                self.end(work)
            self._waiting.drop(work)
            self._begin()
            raise

    def end(self, work: Work) -> None:
        self._free += 1
        if work.is_large:
            self._free_for_large += 1
            self._taken_bytes -= work.memory_bytes
        self._begin()

    def _begin(self) -> None:
        large_may = True
        for work in self._waiting:
            if not self._free:
                return
            if work.turn.done():  # cancelled
                continue
            if work.is_large:
                large_may = large_may and self._fits(work)
                if not large_may:
                    continue
                self._free_for_large -= 1
                self._taken_bytes += work.memory_bytes
            self._free -= 1
            self._waiting.take(work)
            work.turn.set_result(None)

    def _fits(self, work: Work) -> bool:
        room = self._taken_bytes + work.memory_bytes <= self.memory_bytes
        return self._free_for_large > 0 and (room or not self._taken_bytes)
