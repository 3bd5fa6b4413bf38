"""What waits, in an order that is fair to clients."""

from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class FairQueue(Generic[T]):
    """Start-time fair queueing (Goyal, Vin and Cheng 1996): of what clients are given while they
    wait, by its cost, each has an equal share; what one client sends keeps its order.

    Time is virtual: the cost that a client could have been given since it first waited.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._starts: dict[T, float] = {}
        self._clients: dict[T, Hashable] = {}
        self._ends: dict[Hashable, float] = {}

    def __iter__(self) -> Iterator[T]:
        """In the order in which they are to be taken."""
        return iter(sorted(self._starts, key=self._starts.__getitem__))

    def abreast(self, cost: float) -> list[T]:
        """The first of them, in their order: what costs each client so much, and no less than one
        for each that has its turn."""
        order = list(self)
        return [item for item in order if self._starts[item] < self._starts[order[0]] + cost]

    @property
    def is_shared(self) -> bool:
        """Whether several clients wait."""
        return len(set(self._clients.values())) > 1

    def __len__(self) -> int:
        return len(self._starts)

    def put(self, item: T, client: Hashable, cost: float) -> None:
        start = max(self._now, self._ends.get(client, 0.0))
        self._starts[item] = start
        self._clients[item] = client
        self._ends[client] = start + cost

    def charge(self, client: Hashable, cost: float) -> None:
        """What it was given has cost so much more than was said: its turns come later by that."""
        self._ends[client] = max(self._now, self._ends.get(client, 0.0)) + cost
        for item, own in self._clients.items():
            if own == client:
                self._starts[item] += cost

    def take(self, item: T) -> None:
        """It waits no more: it has its turn."""
        self._now = max(self._now, self._starts[item])
        self.drop(item)
        self._ends = {client: end for client, end in self._ends.items() if end > self._now}

    def drop(self, item: T) -> None:
        """It waits no more, if it did. Its client has been charged for it."""
        self._starts.pop(item, None)
        self._clients.pop(item, None)
