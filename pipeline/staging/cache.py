"""What this node keeps of datasets in object storage: a folder for each, all within one limit.

Any number of processes share it. Each holds a shared lock on the folder of a dataset that it reads,
and nothing is evicted from there. Everything else goes as a limit demands, the dataset that was
opened longest ago first.
"""

import fcntl
import os
import re
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from alexnet.atomic import PARTIAL
from alexnet.cache import VARIABLE, cache_folder
from alexnet.command import UserError

FOLDER = "datasets"
SIZE_VARIABLE = "ALEXNET_CACHE_SIZE"
SHARE = 0.8
"""Of the disk that is free but for the cache: the limit where none is set."""
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)
USED, LOCK = ".used", ".lock"


class FullError(UserError):
    """There is no room for another file, in the cache or on its disk."""


class Cache:
    """The folder of one dataset in the cache, from which nothing is evicted while this object
    lives. Raises UserError where the cache cannot be written."""

    def __init__(self, digest: str) -> None:
        self._all = cache_folder() / FOLDER
        self._limit = _limit()
        self.folder = self._all / digest
        try:
            self._all.mkdir(parents=True, exist_ok=True)
            with self._alone():
                self.folder.mkdir(exist_ok=True)
                used = os.open(self.folder / USED, os.O_RDWR | os.O_CREAT, 0o666)
                weakref.finalize(self, os.close, used)
                fcntl.flock(used, fcntl.LOCK_SH)
                os.utime(used)
        except OSError as error:
            raise UserError(
                f"{self.folder}: the cache of datasets cannot be written ({error.strerror}); set "
                f"{VARIABLE} to a folder on a disk of this machine"
            ) from None

    @contextmanager
    def incoming(self, path: Path, size: int) -> Iterator[IO[bytes] | None]:
        """A file of `size` bytes to fill in a block, which is found at `path` after it, as a whole
        or, where the block raises, not at all. None where it is there, or another process fills it.

        Raises FullError.
        """
        # Its name is never removed, only renamed once it is whole: who waits for the lock of a
        # partial file has that of the whole one afterwards, and sees it.
        name = path.with_name(f".{path.name}{PARTIAL}")
        try:
            path.parent.mkdir(exist_ok=True)
            with os.fdopen(os.open(name, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
                if not _locked(file) or path.exists():
                    yield None
                    return
                try:
                    self._reserve(file, size)
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                    name.replace(path)
                except BaseException:
                    file.truncate(0)
                    raise
        except OSError as error:
            raise self._full(error.strerror or str(error)) from None

    def _reserve(self, file: IO[bytes], size: int) -> None:
        """Let the file have so many bytes of the limit and of the disk. Raises OSError, also
        FullError."""
        with self._alone():
            held = _bytes(self._all)
            limit = self._limit
            if limit is None:
                limit = int(SHARE * (shutil.disk_usage(self._all).free + held))
            lacking = held + size - os.fstat(file.fileno()).st_size - limit
            if lacking > 0 and self._evict(lacking) < lacking:
                raise self._full(f"{limit / 1e9:,.1f} GB are its limit")
            os.posix_fallocate(file.fileno(), 0, size)

    def _evict(self, lacking: int) -> int:
        """Remove shards that nobody uses, up to so many bytes; returns how many."""
        freed = 0
        others = [path for path in self._all.iterdir() if path.is_dir() and path != self.folder]
        for folder in sorted(others, key=_last_used):
            with (folder / USED).open("a") as used:
                if not _locked(used):
                    continue
                for shard in folder.glob("*/*.tar"):
                    if freed >= lacking:
                        return freed
                    freed += shard.stat().st_size
                    shard.unlink()
                freed += _bytes(folder)
                shutil.rmtree(folder)
        return freed

    def _full(self, reason: str) -> FullError:
        return FullError(
            f"{self._all}: the cache of datasets is full ({reason}); what does not fit is fetched "
            f"anew in each epoch; set {SIZE_VARIABLE}, or {VARIABLE} to a larger disk"
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process opens a dataset's folder, reserves room or evicts meanwhile."""
        with (self._all / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _locked(file: IO[Any]) -> bool:
    """Whether the file is this process's alone, until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _limit() -> int | None:
    """Bytes of ALEXNET_CACHE_SIZE; None where it is not set. Raises UserError."""
    if not (given := os.environ.get(SIZE_VARIABLE, "").strip()):
        return None
    if not (match := SIZE.fullmatch(given)):
        raise UserError(f"{SIZE_VARIABLE} is {given}; give a size such as 200GB, or 0 for no cache")
    number, letter, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(letter.upper() or " "))


def _bytes(folder: Path) -> int:
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with suppress(FileNotFoundError):
                total += (Path(path) / name).stat().st_size
    return total


def _last_used(folder: Path) -> float:
    with suppress(FileNotFoundError):
        return (folder / USED).stat().st_mtime
    return 0.0
