"""What there is a bounded amount of, and who holds how much of it."""

import asyncio
from collections import defaultdict
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from prometheus_client import Gauge


class NoRoomError(Exception):
    """More than there is room for: all would be `seen`."""

    def __init__(self, what: str, limit: int, seen: int) -> None:
        super().__init__(what)
        self.limit, self.seen = limit, seen


class Room:
    """Holds up to `capacity` of something, for any number of clients.

    Where it is full, the client that holds most of it gives way to one that would still hold less:
    the newest of its requests is ended. So one client can have all that no other wants.
    """

    def __init__(self, capacity: int, full: str = "", gauge: Gauge | None = None) -> None:
        self.capacity, self._full, self._gauge = capacity, full, gauge
        self._held = 0
        self._holds: defaultdict[Hashable, list[Hold]] = defaultdict(list)

    @property
    def held(self) -> int:
        return self._held

    def check(self, client: Hashable, amount: int) -> None:
        """Raises NoRoomError where the client would not be given this amount."""
        self._in_the_way(client, amount)

    @contextmanager
    def hold(self, client: Hashable, amount: int = 0) -> Iterator["Hold"]:
        """So much of the room for as long as the block takes, in one task. Raises NoRoomError, also
        within the block: for what another client needs."""
        task = asyncio.current_task()
        assert task
        hold = Hold(self, client, task)
        try:
            hold.grow(amount)
            yield hold
        except asyncio.CancelledError:
            if not hold.ended or task.cancelling() > hold.cancelling + 1:  # by others as well
                raise
            raise self._error(self._held) from None
        finally:
            self._release(hold)
            if hold.ended:
                task.uncancel()

    def _take(self, hold: "Hold", amount: int) -> None:
        for other in self._in_the_way(hold.client, amount):
            self._release(other)
            other.ended = True
            other.task.cancel()
        holds = self._holds[hold.client]
        if hold not in holds:
            holds.append(hold)
        hold.amount += amount
        self._count(amount)

    def _release(self, hold: "Hold") -> None:
        holds = self._holds[hold.client]
        if hold in holds:
            holds.remove(hold)
            self._count(-hold.amount)
        if not holds:
            del self._holds[hold.client]

    def _count(self, amount: int) -> None:
        self._held += amount
        if self._gauge:
            self._gauge.inc(amount)

    def _in_the_way(self, client: Hashable, amount: int) -> list["Hold"]:
        """What is to end so that the client may take this amount. Raises NoRoomError."""
        excess = self._held + amount - self.capacity
        if excess <= 0 or not amount:  # what needs none is never in the way
            return []
        holds = {other: list(held) for other, held in self._holds.items()}
        sums = {other: sum(hold.amount for hold in held) for other, held in holds.items()}
        wanted = sums.get(client, 0) + amount
        ending = []
        while excess > 0:
            most = max(sums, key=sums.__getitem__, default=client)
            if sums.get(most, 0) <= wanted:
                raise self._error(self._held + amount)
            hold = holds[most].pop()
            sums[most] -= hold.amount
            excess -= hold.amount
            ending.append(hold)
        return ending

    def _error(self, seen: int) -> NoRoomError:
        return NoRoomError(self._full, self.capacity, seen)


class Hold:
    """What one request holds of a room."""

    def __init__(self, room: Room, client: Hashable, task: asyncio.Task) -> None:
        self.room, self.client, self.task = room, client, task
        self.amount = 0
        self.ended = False
        """By another client's need."""
        self.cancelling = task.cancelling()

    def grow(self, amount: int) -> None:
        """Hold so much more. Raises NoRoomError."""
        if not self.ended:
            self.room._take(self, amount)
