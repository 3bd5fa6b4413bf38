"""A folder that one process at a time writes to."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet.command import UserError


@contextmanager
def alone(lock: Path, busy: str) -> Iterator[None]:
    """Nobody else is in such a block with the file `lock`, else UserError with the text `busy`. The
    lock goes with the process, however it ends."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(busy) from None
        yield
