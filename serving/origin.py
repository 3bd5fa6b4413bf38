"""Where a model is published, and what of it is on this disk."""

import logging
import time
from datetime import datetime
from pathlib import Path

from alexnet import checkpoint
from alexnet.command import UserError
from alexnet.store.errors import StoreError, UnreachableError
from alexnet.store.mirror import Mirror
from alexnet.store.url import Place, StoreURL

log = logging.getLogger("serving")

PATIENCE_S = 3.0
"""How long a store may not answer before its copy answers on: it is asked again soon."""
RETRY_PAUSE = 20
"""Times as long as a fetch took that found no room, until it is tried again."""


class Origin:
    """A model's folder, or its URL and the copy that is kept of it. Its methods wait for the
    store: they are not for the event loop."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.away: str | None = None
        """Why the store does not answer; None where it does, and for a folder."""
        self.answered_at: datetime | None = None
        """When the store last answered."""
        self._answered = time.monotonic()
        self._mirror: Mirror | None = None
        self._full: UserError | None = None
        """Why what is published now found no room on the disk."""
        self._retry_at = 0.0

    @property
    def away_s(self) -> float:
        """Seconds since the store last answered, or since the start; 0 where it answers."""
        return time.monotonic() - self._answered if self.away else 0.0

    def directory(self) -> Path:
        """The directory of the step that is published now; of one below a URL the copy, the last
        one where the store does not answer. Raises UserError."""
        if isinstance(self.place, Path):
            return checkpoint.current(self.place)
        mirror = self._opened(self.place)
        if self._full and time.monotonic() < self._retry_at:
            raise self._full
        self._full, started = None, time.monotonic()
        try:
            found = mirror.refresh()
        except UnreachableError as error:
            copy = mirror.copy()
            if self.away is None:
                self.away = str(error)  # which says each time how long it took
                log.warning("store away", extra={"reason": self.away, "copy": copy and str(copy)})
            if copy is None:
                raise UnreachableError(self.away) from None
            return copy
        except UserError as error:
            if not isinstance(error, StoreError | checkpoint.CheckpointError):
                self._full = error
                self._retry_at = started + (1 + RETRY_PAUSE) * (time.monotonic() - started)
            self._is_back()
            raise
        self._is_back()
        return found

    def check(self) -> None:
        """Raises UserError where there is no model, or nothing is known of it here and now."""
        if isinstance(self.place, Path):
            checkpoint.read_about(checkpoint.current(self.place))
            return
        mirror = self._opened(self.place)
        try:
            mirror.about()
        except UnreachableError:
            if mirror.copy() is None:
                raise

    def _opened(self, url: StoreURL) -> Mirror:
        self._mirror = self._mirror or Mirror(url, PATIENCE_S)
        return self._mirror

    def _is_back(self) -> None:
        if self.away:
            log.info("store answers again", extra={"store": str(self.place)})
        self.away, self.answered_at, self._answered = None, checkpoint.now(), time.monotonic()
