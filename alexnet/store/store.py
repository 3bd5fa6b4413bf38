"""A folder in object storage: its objects are found whole or not at all, and new to everybody at
once."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from random import random
from typing import Any, NamedTuple, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from alexnet import atomic
from alexnet.store.access import open_store
from alexnet.store.errors import (
    MissingError,
    StoreError,
    TakenError,
    is_passing,
    refusal,
    unreachable,
)
from alexnet.store.url import StoreURL

log = logging.getLogger("alexnet.store")

FIRST_PATIENCE_S, PATIENCE_S = 15.0, 600.0
"""How long a store may not answer: before its first answer, which a wrong address never gives, and
after it."""
MAX_PAUSE_S = 10.0
"""Between two tries."""
SAID_AFTER_S = 15.0
"""Of waiting, before a line says so."""
PART_BYTES = 16 * 2**20
"""What one request reads of a large object."""
GAP_BYTES = 2**17
"""What a request reads for nothing, at most, to save another one: about what a store sends in the
time that a request takes it."""

T = TypeVar("T")


class Tag(NamedTuple):
    """What tells an object from others under the same name. Amazon and Azure compare the first,
    Google the second."""

    e_tag: str | None
    version: str | None

    @classmethod
    def of(cls, said: "obstore.ObjectMeta | obstore.PutResult") -> "Tag":
        return cls(said["e_tag"], said["version"])


class Tagged(NamedTuple):
    data: bytes
    tag: Tag


class Store:
    """The objects below a URL, by names such as train/00000.tar. Safe for threads; processes open
    their own.

    All of it raises StoreError. A store that does not answer, or answers that it cannot now, is
    asked again for PATIENCE_S.
    """

    def __init__(
        self, url: StoreURL, patience_s: float = PATIENCE_S, answered: bool = False
    ) -> None:
        """`answered`: whether another process has had its answer, so that the address is right."""
        self.url = url
        self._store = open_store(url)
        self._patience_s, self._answered = patience_s, answered
        self._away = False
        """Whether a line has said that it does not answer: one for all threads."""

    def read(self, name: str, most: float = inf) -> bytes:
        """Raises MissingError where there is no such object, and StoreError for more bytes than
        `most`."""
        return self.read_tagged(name, most).data

    def read_tagged(self, name: str, most: float = inf) -> Tagged:
        def read() -> Tagged:
            got = obstore.get(self._store, name)
            self._check(name, got.meta["size"], most)
            return Tagged(bytes(got.bytes()), Tag.of(got.meta))

        return self._asked(name, read)

    def tag(self, name: str) -> Tag | None:
        """The object's tag; None where there is no such object."""
        with suppress(MissingError):
            return self._asked(name, lambda: Tag.of(obstore.head(self._store, name)))
        return None

    def size(self, name: str) -> int | None:
        """The object's bytes; None where there is no such object."""
        with suppress(MissingError):
            return self._asked(name, lambda: obstore.head(self._store, name)["size"])
        return None

    def ranges(self, name: str, starts: Sequence[int], ends: Sequence[int]) -> list[memoryview]:
        """Bytes `starts[i]` to `ends[i]` of an object, by few requests where they lie together."""

        def read() -> list[memoryview]:
            parts = obstore.get_ranges(
                self._store, name, starts=starts, ends=ends, coalesce=GAP_BYTES
            )
            found = [memoryview(part) for part in parts]
            if [*map(len, found)] != [end - start for start, end in zip(starts, ends, strict=True)]:
                raise BaseError("the answer was cut off")
            return found

        return self._asked(name, read)

    def fetch(self, name: str, path: Path, sha256: str | None = None, most: float = inf) -> None:
        """Put the object at `path`, whole or not at all. Raises StoreError where its bytes have
        another SHA-256 or are more than `most`, and UserError where the disk is full."""
        size = self._asked(name, lambda: obstore.head(self._store, name)["size"])
        self._check(name, size, most)
        digest = hashlib.sha256()
        with atomic.writing(path) as file:
            for start in range(0, size, PART_BYTES):
                (part,) = self.ranges(name, [start], [min(size, start + PART_BYTES)])
                digest.update(part)
                file.write(part)
            if sha256 and digest.hexdigest() != sha256:
                raise StoreError(
                    f"{self.place(name)}: the object is damaged, or is another one by now: its "
                    f"SHA-256 is {digest.hexdigest()[:12]}…, but should be {sha256[:12]}…; upload "
                    "it again"
                )

    def write(self, name: str, data: bytes | Path) -> None:
        """Put an object in place of what is there; a file's bytes for a Path."""
        self._asked(name, lambda: obstore.put(self._store, name, data))

    def create(self, name: str, data: bytes) -> Tag:
        """Put a new object; returns its tag. Raises TakenError where there is one that says
        something else."""
        try:
            return self._put(name, data, "create")
        except TakenError:
            return self._ours(name, data)

    def replace(self, name: str, data: bytes, tag: Tag) -> Tag:
        """Put `data` in place of the object of that tag; returns the new tag. Raises TakenError
        where somebody else has replaced or removed that, or this one since, before the answer to it
        came."""
        known = {key: value for key, value in tag._asdict().items() if value is not None}
        try:
            return self._put(name, data, known)
        except (TakenError, MissingError):
            return self._ours(name, data)

    def _put(self, name: str, data: bytes, mode: Any) -> Tag:
        return self._asked(name, lambda: Tag.of(obstore.put(self._store, name, data, mode=mode)))

    def _ours(self, name: str, data: bytes) -> Tag:
        """The tag of an object that was put by a request whose answer was lost, so that another
        try found it there. Raises TakenError where it is somebody else's."""
        with suppress(MissingError):
            found = self.read_tagged(name)
            if found.data == data:
                return found.tag
        raise TakenError(f"{self.place(name)}: somebody else has written it meanwhile")

    def names(self, prefix: str = "") -> list[str]:
        """The sorted names of all objects, or of those in the folder `prefix` and below it."""

        def listed() -> list[str]:
            return sorted(
                meta["path"]
                for chunk in obstore.list(self._store, prefix=prefix or None)
                for meta in chunk
            )

        return self._asked(prefix, listed)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are none."""
        for name in names:
            with suppress(MissingError):
                self._asked(name, partial(obstore.delete, self._store, name))

    def place(self, name: str) -> StoreURL:
        """The URL of an object."""
        return self.url / name if name else self.url

    def _check(self, name: str, size: int, most: float) -> None:
        if size > most:
            raise StoreError(
                f"{self.place(name)}: the object has {size:,} bytes; the limit is {most:,}; check "
                "the URL, or upload it again"
            )

    def _asked(self, name: str, ask: Callable[[], T]) -> T:
        started = time.monotonic()
        for pause_s in _pauses():
            try:
                answer = ask()
            except FileNotFoundError as error:
                self._answered = True
                raise refusal(self.place(name), error) from None
            except (AlreadyExistsError, PreconditionError):
                self._answered = True
                raise TakenError(f"{self.place(name)}: somebody else has written it") from None
            except BaseError as error:
                if not is_passing(error):
                    raise refusal(self.place(name), error) from None
                waited_s = time.monotonic() - started
                patience_s = self._patience_s if self._answered else FIRST_PATIENCE_S
                if waited_s + pause_s > min(patience_s, self._patience_s):
                    raise unreachable(self.place(name), error, waited_s) from None
                if waited_s > SAID_AFTER_S and not self._away:
                    self._away = True
                    log.warning("%s: the store does not answer; waiting for it", self.place(name))
                time.sleep(pause_s)
            else:
                self._answered = True
                if self._away:
                    self._away = False
                    log.warning("%s: the store answers again", self.place(name))
                return answer
        raise AssertionError


def _pauses() -> Iterator[float]:
    """Seconds between tries: twice as long each time, and never the same for two clients."""
    pause_s = 0.2
    while True:
        yield pause_s * (0.5 + random())
        pause_s = min(2 * pause_s, MAX_PAUSE_S)
