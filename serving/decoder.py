"""Photographs to images, in processes of their own: what breaks a decoder breaks nothing else."""

import asyncio
import hashlib
import math
import resource
import signal
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_process
import numpy as np
from anyio import BrokenWorkerProcess, CapacityLimiter
from PIL import Image

from alexnet import sandbox
from alexnet.formats import FORMATS, UNKNOWN
from alexnet.pixels import ImageError, ImageRule, Limits, whole_image
from serving.formats import named

MEMORY_BYTES = 2**30
"""What a decoder process may take beyond what it starts with; more where decoding the largest image
that is let in takes more."""
FILE_BYTES = 2**26
"""Room for a file itself, in that."""
ATTEMPTS = 2
DEATHS = 3
"""Decoders that one file may take with it, in one request or several, before it is held for the
cause."""
REMEMBERED = 256
"""Files that are remembered for it."""
LEFT_S = 1
"""For so long a decoding goes on that nobody waits for any more: ending its process, and starting
another in its place, costs more than most images do."""
NOTICED_S = 0.1
"""Time within which a process that has died is known to be dead."""

T = TypeVar("T")


class DecoderDiedError(ImageError):
    """An image whose decoder was ended, by the system or by the image: another try may succeed."""


class Decoder:
    """Up to `processes` decoder processes, started when needed or before, replaced when they die.

    An image whose decoder dies is tried once more: the system may have ended it.
    """

    def __init__(
        self, processes: int, formats: tuple[str, ...], limits: Limits, timeout_s: float
    ) -> None:
        self._processes, self._limiter = processes, CapacityLimiter(processes)
        self._formats, self._limits, self._timeout_s = formats, limits, timeout_s
        self._deaths: dict[bytes, int] = {}
        """{digest of a file: how many decoders died of it since it was last decoded}."""

    async def start(self) -> None:
        """Start all processes, so that the first images do not wait for them."""

        async def start_one() -> None:
            async with self._limiter:  # or else a first image would start one more
                await _run(_confine, self._limits.pixels, self._formats)

        await asyncio.gather(*(start_one() for _ in range(self._processes)), return_exceptions=True)

    async def __call__(self, data: bytes, size: int, rule: ImageRule) -> np.ndarray:
        """File bytes -> (size, size, 3) uint8. Raises ImageError."""
        for _ in range(ATTEMPTS):
            self._check_deaths(data)
            try:
                image_SS3 = await self._attempt(data, size, self._formats, rule, self._limits)
            except (BrokenWorkerProcess, ProcessLookupError):  # the latter while it is started
                self._remember(data)
                # What killed it may have killed idle ones too: they are not to be tried next.
                await anyio.sleep(NOTICED_S)
            except TimeoutError:
                raise ImageError(
                    "too-large",
                    f"decoding the image takes more than {self._timeout_s:g} seconds",
                ) from None
            else:
                if self._deaths:
                    self._deaths.pop(_digest(data), None)
                return image_SS3
        self._check_deaths(data)
        raise DecoderDiedError(
            "damaged",
            f"the process that decodes the image was ended {ATTEMPTS} times, by the system or by "
            "the image; send it again",
        )

    def _check_deaths(self, data: bytes) -> None:
        if self._deaths and self._deaths.get(_digest(data), 0) >= DEATHS:
            raise ImageError("damaged", f"the image is damaged: its decoder crashed {DEATHS} times")

    def _remember(self, data: bytes) -> None:
        digest = _digest(data)
        self._deaths[digest] = self._deaths.pop(digest, 0) + 1
        if len(self._deaths) > REMEMBERED:
            del self._deaths[next(iter(self._deaths))]

    async def _attempt(self, *arguments: Any) -> np.ndarray:
        """Decode in a free process. Where nobody waits for it any more, what has begun goes on for
        LEFT_S, in its place among the processes."""
        place = object()
        await self._limiter.acquire_on_behalf_of(place)  # waiting for a process is not decoding

        async def decode() -> np.ndarray:
            try:
                with anyio.fail_after(self._timeout_s):
                    return await _run(_decode, *arguments)
            finally:
                self._limiter.release_on_behalf_of(place)

        work = asyncio.ensure_future(decode())
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            end = asyncio.get_running_loop().call_later(LEFT_S, work.cancel)
            work.add_done_callback(lambda _: end.cancel())
            work.add_done_callback(lambda _: work.cancelled() or work.exception())  # nobody's
            raise
        return work.result()


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


async def _run(function: Callable[..., T], *arguments: Any) -> T:
    """Call the function in a process, which is killed where nobody waits for it any more."""
    return await anyio.to_process.run_sync(
        function, *arguments, cancellable=True, limiter=CapacityLimiter(math.inf)
    )


def _decode(
    data: bytes, size: int, formats: tuple[str, ...], rule: ImageRule, limits: Limits
) -> np.ndarray:
    _confine(limits.pixels, formats)
    try:
        return whole_image(data, size, formats, rule, limits)
    except ImageError as error:
        if error.kind == "not-an-image":
            raise named(error, data, formats) from None
        raise


@cache
def _confine(max_pixels: int, formats: tuple[str, ...]) -> None:
    # Ctrl-C, systemd and a terminal that closes signal all processes; the server is the one that
    # ends its decoders.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    per_pixel = max(FORMATS.get(name, UNKNOWN).bytes_per_pixel for name in formats)
    bound = pages * resource.getpagesize()
    bound += max(MEMORY_BYTES, per_pixel * max_pixels + FILE_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    # Some of Pillow's decoders allocate before `Limits` sees the size.
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    sandbox.enter()
