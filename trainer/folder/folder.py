"""What a run does with its folder, wherever that is."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import TYPE_CHECKING, Protocol

from alexnet.store.url import Place, StoreURL

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

Lost = Callable[[], str | None]
"""Why a run that was held is not held any more; None while it is."""


class Journal(Protocol):
    """Where one process writes down what a run does."""

    @property
    def board(self) -> "SummaryWriter":
        """TensorBoard's events, for the next thing to add; not to be kept."""

    def write(self, line: str) -> None:
        """Add a line to the metrics. Raises StoreError where earlier ones could not be kept."""

    def keep(self) -> None:
        """Return once nothing of what is written can get lost. Raises StoreError."""

    def close(self) -> None:
        """Keep all of it, and write no more."""


class Follower(Protocol):
    """Who reads the metrics while they are written."""

    def lines(self, now: bool = False) -> list[str]:
        """Those that are new. In a store they come some seconds late, unless `now`."""

    def close(self) -> None: ...


class Stop(Protocol):
    """The wish that a run save and end, which any process may have."""

    def asked(self) -> bool:
        """Costs nothing; in a store the answer is some seconds old."""

    def ask(self) -> None: ...

    def clear(self) -> None: ...

    def close(self) -> None:
        """Once others know what was asked for."""


class Folder(Protocol):
    """A run's folder."""

    def read(self, name: str) -> bytes:
        """A file of it. Raises OSError, of which a missing one is FileNotFoundError."""

    def write(self, name: str, data: bytes) -> None:
        """Put a file in place of what is there, whole."""

    def exists(self) -> bool:
        """Whether there is a run in it."""

    def create(self, config: bytes) -> bool:
        """Make the folder, with its config.json; False where there is a run in it already."""

    def remove(self, name: str) -> None:
        """One that is not there is none."""

    def checkpoints(self) -> list[str]:
        """The names of their folders, the oldest first."""

    def metrics(self) -> list[str]:
        """All lines so far. Raises OSError."""

    def follow(self) -> Follower:
        """From here on."""

    def journal(self, step: int) -> Journal:
        """`step` is where the run goes on; what TensorBoard shows beyond was done in vain."""

    def stop(self) -> Stop: ...

    def held(self, busy: str) -> AbstractContextManager[Lost]:
        """Lets this process alone train the run for the length of a block. Raises RunError with the
        text `busy` where another one does."""


@cache
def open_folder(directory: Place) -> Folder:
    """The same for the same place: a store that has answered once is waited for."""
    if isinstance(directory, StoreURL):
        from trainer.folder.stored import StoredFolder

        return StoredFolder(directory)
    from trainer.folder.disk import DiskFolder

    return DiskFolder(directory)
