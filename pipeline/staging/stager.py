"""Brings the shards of a split to this node, behind the back of what reads them."""

import logging
import random
import threading
from collections import deque
from collections.abc import Sequence

from alexnet.command import UserError
from alexnet.store.errors import UnreachableError
from pipeline.staging.cache import FullError
from pipeline.staging.stored import Object, StoredDataset

THREADS = 4
"""Shards that a process stages at once."""
PAUSE_S = 2.0
"""Before a store that is away is asked again."""

log = logging.getLogger(__name__)


class Stager:
    """Stages shards in threads of its own, each unless another process of this node does."""

    def __init__(self, dataset: StoredDataset, shards: Sequence[Object]) -> None:
        self._dataset, self._shards = dataset, shards
        self._threads: list[threading.Thread] = []
        self._waiting: deque[Object] = deque()
        self._stopped, self._said = threading.Event(), False
        self.error: UserError | None = None
        """What is wrong with the dataset, where something is."""

    def begin(self) -> None:
        """Stage what is missing, unless that is under way."""
        if any(thread.is_alive() for thread in self._threads):
            return
        folder = self._dataset.folder
        missing = [shard for shard in self._shards if not (folder / shard.name).exists()]
        random.shuffle(missing)  # processes that began together stage different ones
        self._waiting = deque(missing)
        # Not daemons: those would be ended within a request when the process ends.
        self._threads = [
            threading.Thread(target=self._stage, name="staging")
            for _ in range(min(THREADS, len(missing)))
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Begin no other shard."""
        self._stopped.set()

    def _stage(self) -> None:
        while not self._stopped.is_set() and threading.main_thread().is_alive():
            try:
                shard = self._waiting.popleft()
            except IndexError:
                return
            try:
                self._dataset.stage(shard)
            except UnreachableError:
                self._waiting.append(shard)
                self._stopped.wait(PAUSE_S)
            except FullError as error:
                self._waiting.clear()
                if not self._said:
                    self._said = True
                    log.warning("%s", error)
            except UserError as error:
                self._waiting.clear()
                self.error = error
