"""Who alone may write somewhere in a store: an object that its holder renews, and loses where he
does not."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from uuid import uuid4

from alexnet.store.errors import MissingError, StoreError, TakenError
from alexnet.store.store import Store, Tag

LEASE_S, RENEW_S = 60.0, 10.0
"""A lease that has not changed for so long is free; its holder renews it so often. No clock is
compared with another machine's: who wants it watches it."""


class Lease:
    """A lease that is held; made by `held`."""

    def __init__(self, store: Store, name: str, tag: Tag, holder: dict[str, str]) -> None:
        self._store, self._name, self._tag, self._holder = store, name, tag, holder
        self._count = 0
        self.lost: str | None = None
        """Why it is not held any more; None while it is."""

    def renew(self) -> None:
        self._count += 1
        data = json.dumps({**self._holder, "renewed": self._count}).encode()
        try:
            self._tag = self._store.replace(self._name, data, self._tag)
        except (TakenError, MissingError):
            self.lost = (
                f"{self._store.place(self._name)}: another process has taken over, or somebody "
                "removed this object"
            )

    def release(self) -> None:
        """Free it at once, where it is still held."""
        with suppress(StoreError):
            if self.lost is None and self._store.tag(self._name) == self._tag:
                self._store.remove([self._name])


@contextmanager
def held(
    store: Store, name: str, busy: str, say: Callable[[str], None], lease_s: float = LEASE_S
) -> Iterator[Lease]:
    """Hold the lease `name` for the length of a block. One that a dead process left is waited for,
    which `say` is told. Raises TakenError with the text `busy` where its holder is alive."""
    holder = {
        "holder": uuid4().hex, "host": socket.gethostname(), "process": str(os.getpid()),
    }  # fmt: skip
    lease = Lease(store, name, _taken(store, name, holder, busy, say, lease_s), holder)
    ended = threading.Event()

    def renew() -> None:
        while lease.lost is None and not ended.wait(RENEW_S * lease_s / LEASE_S):
            with suppress(StoreError):  # the store is away: tried again, and lost if taken
                lease.renew()

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        ended.set()
        thread.join(lease_s)
        lease.release()


def _taken(
    store: Store, name: str, holder: dict[str, str], busy: str, say: Callable[[str], None],
    lease_s: float,
) -> Tag:  # fmt: skip
    """The tag of the lease, once it is ours."""
    data = json.dumps(holder).encode()
    seen: Tag | None = None
    while True:
        try:
            return store.create(name, data)
        except TakenError:
            pass
        try:
            found = store.read_tagged(name)
        except MissingError:
            continue
        if seen is not None:
            raise TakenError(f"{busy} ({_who(found.data)})")
        seen = found.tag
        who = _who(found.data)
        say(f"{store.place(name)}: held by {who}; waiting {lease_s:.0f} s for a sign of life")
        until = time.monotonic() + lease_s
        while time.monotonic() < until and store.tag(name) == seen:
            time.sleep(lease_s / 20)
        if (now := store.tag(name)) == seen:
            try:
                return store.replace(name, data, seen)
            except TakenError:
                continue
        elif now is None:
            seen = None


def _who(data: bytes) -> str:
    try:
        holder = json.loads(data)
        return f"process {holder['process']} on {holder['host']}"
    except (ValueError, KeyError, TypeError):
        return "an unknown process"
