"""The model that answers, and the next one when it is published."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import inf, nan
from pathlib import Path

from alexnet import checkpoint, regular
from alexnet.command import UserError
from alexnet.predictor import Predictor, pass_bytes
from alexnet.similar import FOLDER
from alexnet.store.url import Place
from serving import memory, metrics
from serving.budget import Budget
from serving.neighbours import Neighbours
from serving.origin import Origin
from serving.schemas import ModelName

log = logging.getLogger("serving")

RETRY_PAUSE = 50
"""Times as long as a load took, until what may have been the fault of disk or memory is retried."""


class NotReadyError(Exception):
    """No model answers yet; the text says why."""


class MemoryShortError(UserError):
    """A model for which there is no memory now."""


class Served:
    """A model with its index of training images, if it has one."""

    def __init__(self, predictor: Predictor, neighbours: Neighbours | None = None) -> None:
        self.predictor, self.neighbours = predictor, neighbours
        self.name = ModelName.of(*predictor.abouts)
        self.loaded_at = checkpoint.now()

    @classmethod
    def load(cls, directories: tuple[Path, ...]) -> "Served":
        """Load a model from each directory, and the index of the first. Raises UserError where
        weights are damaged, members do not fit, or the index is of other weights."""
        predictor = Predictor([checkpoint.load(directory) for directory in directories])
        return cls(predictor, Neighbours.open(directories[0], predictor.about))


class Models:
    """What `places` (models/NAME or models/NAME/STEP) mean, loaded anew when that changes.

    The next model is loaded and verified beside the present one, which answers until then, and
    keeps answering where the next is bad.
    """

    def __init__(self, places: tuple[Place, ...], served: Served | None = None) -> None:
        self.origins = tuple(map(Origin, places))
        self.served = served
        self.passes = 1
        """Forward passes that run at once."""
        self.budget: Budget | None = None
        """What a model may take; None where nobody says."""
        self.prepare: Callable[[Served], Awaitable[None]] | None = None
        """Awaited for each model that is loaded, before it answers."""
        self.failed: str | None = None
        """Why the newest published model does not answer."""
        self.looked = asyncio.Event()
        """Set once there is a model, or a reason why not."""
        self._seen: tuple = ()
        self._retry_at = inf
        """When the files that failed last are tried again, by time.monotonic()."""
        # One thread for all loads: each thread's allocator keeps what the largest load took.
        self._loader = ThreadPoolExecutor(1, "loader")

    def ready(self) -> Served:
        """The model that answers now. Raises NotReadyError."""
        if self.served is None:
            raise NotReadyError(self.failed or "the model is being loaded")
        return self.served

    async def watch(self, every_s: float) -> None:
        """Load now and whenever something new is published, until cancelled."""
        while True:
            await self.look()
            self.looked.set()
            await asyncio.sleep(every_s)

    async def look(self) -> None:
        """Load what is published now, unless it is what was loaded or refused last.

        What failed for other reasons than what the files hold is retried.
        """
        started = time.monotonic()
        seen: tuple = ()  # of a pointer that cannot be followed, which is followed anew each time
        try:
            loop = asyncio.get_running_loop()
            directories, seen = await loop.run_in_executor(self._loader, _published, self.origins)
            if seen == self._seen and started < self._retry_at:
                return
            served = await loop.run_in_executor(self._loader, self._load, directories)
            if self.prepare:
                await self.prepare(served)
        except Exception as error:  # of a model by hand or by another version: almost anything
            took_s = time.monotonic() - started
            self._retry_at = inf if _permanent(error) else started + (1 + RETRY_PAUSE) * took_s
            known = isinstance(error, UserError | OSError)
            where = ", ".join(str(origin.place) for origin in self.origins)
            self._refuse(str(error) if known else f"{where}: cannot be loaded ({error!r})")
        else:
            self._retry_at = inf
            self._swap(served)
        self._seen = seen

    def _load(self, directories: tuple[Path, ...]) -> Served:
        """Raises UserError, where memory is short before much of it is taken."""
        abouts = [checkpoint.read_about(checkpoint.current(path)) for path in directories]
        if self.budget and not self.budget.is_enough(abouts):
            with_it, total = self.budget.without_images(abouts), self.budget.total
            raise MemoryShortError(
                f"{', '.join(map(str, directories))}: with it a server process takes up to "
                f"{with_it / 1e9:.1f} GB before it sees an image, and may take {total / 1e9:.1f} "
                "GB; raise SERVING_MEMORY, or what the container is granted, or publish a smaller "
                "network"
            )
        ours = self.served.predictor.abouts if self.served else []
        # Twice the weights: as they are read, and as tensors. Passes take over what others took.
        more = max(map(pass_bytes, abouts)) - max(map(pass_bytes, ours), default=0)
        needed = sum(8 * checkpoint.parameters(about.network) for about in abouts)
        needed += self.passes * max(0, more)
        if needed > (available := memory.available_bytes()):
            raise MemoryShortError(
                f"{', '.join(map(str, directories))}: loading it takes about {needed / 1e9:.1f} GB "
                f"of memory, and {available / 1e9:.1f} GB are free; grant the server more, or "
                "publish a smaller network"
            )
        return Served.load(directories)

    def _refuse(self, reason: str) -> None:
        if reason != self.failed:
            log.error("model not loaded", extra={"reason": reason})
            metrics.RELOADS.labels("refused").inc()
            metrics.RELOAD_FAILED.set(1)
        self.failed = reason

    def _swap(self, served: Served) -> None:
        if self.served:
            metrics.MODEL.labels(**_labels(self.served)).set(0)
        self.served, self.failed = served, None
        metrics.MODEL.labels(**_labels(served)).set(1)
        for (views, mean), share in _shares(served).items():
            metrics.ACCURACY.labels(views, mean).set(share)
        metrics.READY.set(1)
        metrics.RELOADS.labels("loaded").inc()
        metrics.RELOAD_FAILED.set(0)
        log.info("model loaded", extra={"model": _labels(served)})


def _shares(served: Served) -> dict[tuple[int, str], float]:
    """{(views, "images" or "classes"): top-1 accuracy}, NaN where it was not measured."""
    shares = dict.fromkeys(product((1, 10), ("images", "classes")), nan)
    (about, *others) = served.predictor.abouts
    for measured in () if others else about.accuracy:
        shares[measured.views, "images"] = measured.top1 / measured.pictures
        if measured.macro_top1 is not None:
            shares[measured.views, "classes"] = measured.macro_top1
    return shares


def _permanent(error: BaseException) -> bool:
    """Whether the same files will be refused again. Where reading failed, which `from None` hides
    from people only, or memory was short, which torch calls a RuntimeError, they may not be."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, OSError | RuntimeError | MemoryError | MemoryShortError):
            return False
        cause = cause.__context__
    return isinstance(error, UserError)


def _published(origins: tuple[Origin, ...]) -> tuple[tuple[Path, ...], tuple]:
    """The directories of the steps that are published now, and what tells them from others."""
    try:
        directories = tuple(origin.directory() for origin in origins)
    finally:
        metrics.STORE_AWAY_S.set(max((origin.away_s for origin in origins), default=0))
    return directories, tuple((path, *_found(path)) for path in directories)


def _labels(served: Served) -> dict[str, str]:
    name = served.name
    return {"name": name.name, "step": str(name.step), "sha256": name.sha256}


def _found(directory: Path) -> list[tuple[float, bytes] | None]:
    """When its files were written, and what those say that hold digests: what was missing or
    damaged may be put right in place, an index of training images may be built after the model was
    loaded, and another model may come with equal times, as in a volume of a container's image."""
    described = "about.json", f"{FOLDER}/about.json"
    found: list[tuple[float, bytes] | None] = []
    for name in (*described, "model.safetensors"):
        path = directory / name
        try:
            most = checkpoint.MAX_ABOUT_BYTES
            text = regular.read(path, most) if name in described else b""
            found.append((path.stat().st_mtime, text))
        except OSError:
            found.append(None)
    return found
