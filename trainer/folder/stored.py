"""A run's folder in a store, where nothing can be appended to or locked: lines go up in parts, who
trains has a lease, and what another process wishes is looked for every few seconds."""

import errno
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Event, Lock, Thread

from tensorboardX import SummaryWriter

from alexnet.store.errors import MissingError, StoreError, TakenError
from alexnet.store.lease import held
from alexnet.store.store import Store, Tag
from alexnet.store.url import StoreURL
from trainer.errors import RunError
from trainer.folder.folder import Lost

KEPT_S, BOARD_S = 10.0, 60.0
"""Lines and TensorBoard's events go up so often."""
PART_BYTES = 2**20
"""A part that has so many is not written any more, and the next begins."""
LOOK_S = 3.0
"""Between two looks for what another process has written."""
IMPATIENT_S = 15.0
"""Where a request will be made again anyway, or nobody needs it."""
CONFIG, METRICS, STOP = "config.json", "metrics/", "stop"


class StoredFolder:
    """`trainer.folder.folder.Folder`, in a store."""

    def __init__(self, url: StoreURL) -> None:
        self._url, self._store = url, Store(url)

    def read(self, name: str) -> bytes:
        try:
            return self._store.read(name)
        except MissingError:
            raise FileNotFoundError(
                errno.ENOENT, os.strerror(errno.ENOENT), self._url / name
            ) from None

    def write(self, name: str, data: bytes) -> None:
        self._store.write(name, data)

    def exists(self) -> bool:
        try:
            self.read(CONFIG)  # which says where there is no such bucket
        except FileNotFoundError:
            return False
        return True

    def create(self, config: bytes) -> bool:
        if self.exists():
            return False
        try:
            self._store.create(CONFIG, config)
        except TakenError:
            return False
        return True

    def remove(self, name: str) -> None:
        self._store.remove([name])

    def checkpoints(self) -> list[str]:
        folders = {name.partition("/")[0] for name in self._store.names() if "/" in name}
        return sorted(folder for folder in folders if folder.startswith("step_"))

    def metrics(self) -> list[str]:
        if not (names := self._store.names(METRICS)):
            self.read(CONFIG)  # says where there is no such run
        return [line for name in names for line in self._store.read(name).decode().splitlines()]

    def follow(self) -> "StoredFollower":
        return StoredFollower(Store(self._url, IMPATIENT_S))

    def journal(self, step: int) -> "StoredJournal":
        return StoredJournal(Store(self._url, answered=True), step)

    def stop(self) -> "StoredStop":
        return StoredStop(self._url)

    @contextmanager
    def held(self, busy: str) -> Iterator[Lost]:
        with ExitStack() as stack:
            try:
                lease = stack.enter_context(
                    held(Store(self._url, 4 * IMPATIENT_S), "lock", busy, _say)
                )
            except TakenError as error:
                raise RunError(str(error)) from None
            yield lambda: lease.lost


def _say(text: str) -> None:
    print(text, flush=True)


class StoredJournal:
    """Lines are put together to a part, which grows: each time the object is replaced as a whole.
    Events cannot grow so for those who copy them, so each file of them is a new one."""

    def __init__(self, store: Store, step: int) -> None:
        self._store, self._begin = store, step + 1
        parts = store.names(METRICS)
        # A process that was thought dead may still write to its own.
        self._part = 1 + int(parts[-1].removeprefix(METRICS).partition(".")[0]) if parts else 0
        self._new, self._sent = True, 0
        self._lines: list[str] = []
        self._temporary = TemporaryDirectory(prefix="journal.")
        self._board: SummaryWriter | None = None
        self._boards = 0
        self._kept_at, self._board_at = 0.0, time.monotonic()
        self._thread = ThreadPoolExecutor(1, "journal")
        self._upload: Future[None] = self._thread.submit(lambda: None)

    @property
    def board(self) -> SummaryWriter:
        if self._board is None:
            self._board = SummaryWriter(
                self._temporary.name,
                purge_step=None if self._boards else self._begin,
                filename_suffix=f".{self._boards:06d}",
            )
            self._boards += 1
        return self._board

    def write(self, line: str) -> None:
        self._lines.append(line + "\n")
        now = time.monotonic()
        if now - self._kept_at >= KEPT_S and self._upload.done():
            self._send(events=now - self._board_at >= BOARD_S)

    def keep(self) -> None:
        self._upload.result()
        self._send(events=True)
        self._upload.result()

    def close(self) -> None:
        try:
            self.keep()
        finally:
            self._thread.shutdown()
            self._temporary.cleanup()

    def _send(self, events: bool) -> None:
        """Have what there is put into the store. Raises StoreError where what came before could
        not be."""
        self._upload.result()
        self._kept_at = time.monotonic()
        files: list[Path] = []
        if events and self._board:
            self._board_at = self._kept_at
            self._board.close()
            self._board = None
            files = sorted(Path(self._temporary.name).iterdir())
        lines, new = b"", self._new
        if len(self._lines) > self._sent:
            lines = "".join(self._lines).encode()
            self._new = len(lines) >= PART_BYTES
            self._lines = [] if self._new else self._lines
            self._sent = len(self._lines)
        self._upload = self._thread.submit(self._put, lines, new, files)

    def _put(self, lines: bytes, new: bool, events: list[Path]) -> None:
        for file in events:
            self._store.write(f"tensorboard/{file.name}", file)
            file.unlink()
        while lines:
            name = f"{METRICS}{self._part:08d}.jsonl"
            try:
                if new:
                    self._store.create(name, lines)
                else:
                    self._store.write(name, lines)
                return
            except TakenError:
                self._part += 1


class StoredFollower:
    """Looks in a thread of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._whole = set(store.names(METRICS))
        self._tags: dict[str, Tag] = {}
        self._counts: dict[str, int] = {}
        self._found: SimpleQueue[str] = SimpleQueue()
        self._looking, self._ended = Lock(), Event()
        Thread(target=self._follow, name="follower", daemon=True).start()

    def lines(self, now: bool = False) -> list[str]:
        if now:
            self._look()
        found = []
        with suppress(Empty):
            while True:
                found.append(self._found.get_nowait())
        return found

    def close(self) -> None:
        self._ended.set()

    def _follow(self) -> None:
        while not self._ended.wait(LOOK_S):
            self._look()

    def _look(self) -> None:
        with self._looking, suppress(StoreError):  # it is away, and looked at again
            names = self._store.names(METRICS)
            for name in names:
                if name not in self._whole and self._is_read(name) and name != names[-1]:
                    self._whole.add(name)

    def _is_read(self, name: str) -> bool:
        """Whether the part is as it was; else it is read."""
        if self._store.tag(name) == self._tags.get(name):
            return True
        data, self._tags[name] = self._store.read_tagged(name)
        lines = data.decode().splitlines()
        for line in lines[self._counts.get(name, 0) :]:
            self._found.put(line)
        self._counts[name] = len(lines)
        return False


class StoredStop:
    """Looks in a thread of its own, which begins with the first question."""

    def __init__(self, url: StoreURL) -> None:
        self._url = url
        self._store = Store(url, IMPATIENT_S)
        self._asked, self._ended = Event(), Event()
        self._thread: Thread | None = None
        self._writer = ThreadPoolExecutor(1, "stop")
        self._written: Future[None] | None = None

    def asked(self) -> bool:
        if not self._thread:
            self._thread = Thread(target=self._watch, name="stop", daemon=True)
            self._thread.start()
        return self._asked.is_set()

    def _watch(self) -> None:
        while not self._asked.is_set():
            with suppress(StoreError):  # it is away, and looked at again
                if self._store.tag(STOP):
                    self._asked.set()
            if self._ended.wait(LOOK_S):
                return

    def ask(self) -> None:
        self._asked.set()
        self._written = self._writer.submit(Store(self._url, answered=True).write, STOP, b"")

    def clear(self) -> None:
        if self._written:
            self._written.result()
        self._store.remove([STOP])
        self._asked.clear()

    def close(self) -> None:
        self._ended.set()
        if self._written:
            self._written.result()
