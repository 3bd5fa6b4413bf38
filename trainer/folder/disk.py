"""A run's folder on disk: files that are appended to, and locked."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorboardX import SummaryWriter

from alexnet import atomic
from trainer.errors import RunError
from trainer.folder.folder import Lost


class DiskFolder:
    """`trainer.folder.folder.Folder`, on disk."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._metrics = directory / "metrics.jsonl"

    def read(self, name: str) -> bytes:
        return (self._directory / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        atomic.write(self._directory / name, data)

    def exists(self) -> bool:
        return (self._directory / "config.json").exists()

    def create(self, config: bytes) -> bool:
        if self.exists():
            return False
        self._directory.mkdir(parents=True, exist_ok=True)
        self._metrics.touch()
        self.write("config.json", config)
        return True

    def remove(self, name: str) -> None:
        (self._directory / name).unlink(missing_ok=True)

    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in self._directory.glob("step_*") if path.is_dir())

    def metrics(self) -> list[str]:
        return self._metrics.read_text().splitlines()

    def follow(self) -> "DiskFollower":
        return DiskFollower(self._metrics)

    def journal(self, step: int) -> "DiskJournal":
        return DiskJournal(self._metrics, self._directory / "tensorboard", step)

    def stop(self) -> "DiskStop":
        return DiskStop(self._directory / "stop")

    @contextmanager
    def held(self, busy: str) -> Iterator[Lost]:
        with (self._directory / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(busy) from None
            yield lambda: None


class DiskJournal:
    """Lines are there once they are written."""

    def __init__(self, metrics: Path, board: Path, step: int) -> None:
        content = metrics.read_bytes()
        self._file = metrics.open("a")
        if content and not content.endswith(b"\n"):  # a worker was killed while it wrote
            self._file.write("\n")
        self.board = SummaryWriter(str(board), purge_step=step + 1)

    def write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()

    def keep(self) -> None:
        pass

    def close(self) -> None:
        self._file.close()
        self.board.close()


class DiskFollower:
    def __init__(self, metrics: Path) -> None:
        self._file = metrics.open()
        self._file.seek(0, 2)

    def lines(self, now: bool = False) -> list[str]:
        found = []
        while line := self._file.readline():
            if not line.endswith("\n"):  # half a line: the rest is on its way
                self._file.seek(self._file.tell() - len(line))
                break
            found.append(line)
        return found

    def close(self) -> None:
        self._file.close()


class DiskStop:
    def __init__(self, file: Path) -> None:
        self._file = file

    def asked(self) -> bool:
        return self._file.exists()

    def ask(self) -> None:
        self._file.touch()

    def clear(self) -> None:
        self._file.unlink(missing_ok=True)

    def close(self) -> None:
        pass
