"""Photographs to images, in processes of their own: what breaks a decoder breaks nothing else."""

import asyncio
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

from alexnet.formats import FORMATS, UNKNOWN
from alexnet.pixels import ImageError, ImageRule, Limits, whole_image
from serving.formats import named

MEMORY_BYTES = 2**30
"""What a decoder process may take beyond what it starts with; more where decoding the largest image
that is let in takes more."""
FILE_BYTES = 2**26
"""Room for a file itself, in that."""
ATTEMPTS = 2
NOTICED_S = 0.1
"""Time within which a process that has died is known to be dead."""

T = TypeVar("T")


class Decoder:
    """Up to `processes` decoder processes, started when needed or before, replaced when they die.

    An image whose decoder dies is tried once more: another image may have been the cause.
    """

    def __init__(
        self, processes: int, formats: tuple[str, ...], limits: Limits, timeout_s: float
    ) -> None:
        self._processes, self._limiter = processes, CapacityLimiter(processes)
        self._formats, self._limits, self._timeout_s = formats, limits, timeout_s

    async def start(self) -> None:
        """Start all processes, so that the first images do not wait for them."""

        async def start_one() -> None:
            async with self._limiter:  # or else a first image would start one more
                await _run(_confine, self._limits.pixels, self._formats)

        await asyncio.gather(*(start_one() for _ in range(self._processes)), return_exceptions=True)

    async def __call__(self, data: bytes, size: int, rule: ImageRule) -> np.ndarray:
        """File bytes -> (size, size, 3) uint8. Raises ImageError."""
        for _ in range(ATTEMPTS):
            try:
                async with self._limiter:  # waiting for a process is not decoding
                    with anyio.fail_after(self._timeout_s):
                        return await _run(_decode, data, size, self._formats, rule, self._limits)
            except (BrokenWorkerProcess, ProcessLookupError):  # the latter while it is started
                # What killed it may have killed idle ones too: they are not to be tried next.
                await anyio.sleep(NOTICED_S)
            except TimeoutError:
                raise ImageError(
                    "too-large",
                    f"decoding the image takes more than {self._timeout_s:g} seconds",
                ) from None
        raise ImageError("damaged", "the image is damaged: its decoder crashed twice")


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
    # Ctrl-C and systemd signal all processes; the server is the one that ends its decoders.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    per_pixel = max(FORMATS.get(name, UNKNOWN).bytes_per_pixel for name in formats)
    bound = pages * resource.getpagesize()
    bound += max(MEMORY_BYTES, per_pixel * max_pixels + FILE_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    # Some of Pillow's decoders allocate before `Limits` sees the size.
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
