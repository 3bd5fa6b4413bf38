"""Photographs to images, in processes of their own: what breaks a decoder breaks nothing else."""

import asyncio
import hashlib
import math
import os
import resource
import signal
import time
import warnings
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import anyio
import anyio.to_process
import numpy as np
from anyio import BrokenWorkerProcess, CapacityLimiter
from PIL import Image

from alexnet import sandbox
from alexnet.formats import FORMATS, NEVER, recognise
from alexnet.pixels import ImageError, ImageRule, Limits, whole_image
from serving.declared import Declared, bytes_per_pixel, declared
from serving.formats import named
from serving.memory import share_heap
from serving.settings import Settings
from serving.turns import Turns, Work

EFFORT_PER_S = 2**25
"""Pixels of a PNG that a processor decodes in a second, on the safe side."""
SMALL = 2**22
"""Effort, in pixels of a PNG, up to which an image is small: about a tenth of a second."""
USUAL_PIXELS = 2**24
"""What an image counts as whose header does not say its size to us."""
FILE_COPIES = 4
"""Of an image's file: on its way to a decoder, twice in each of the two processes."""
SLACK_BYTES = 2**26
"""Address space that a decoder may take beyond what is counted."""
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
NICENESS, MORE_FOR_LARGE = 5, 10
"""So that images, and large ones more so, take the processors from the model's passes last."""

T = TypeVar("T")


class DecoderDiedError(ImageError):
    """An image whose decoder was ended, by the system or by the image: another try may succeed."""


class Decoder:
    """The settings' number of processes, started when needed or before, replaced when they die.

    Clients have them in turn. Images that take long leave one to those that do not; all that are
    decoded at once take `memory_bytes`. An image whose decoder dies is tried once more: the system
    may have ended it.
    """

    def __init__(
        self, settings: Settings, memory_bytes: int, charge: Callable[[Hashable, float], None]
    ) -> None:
        """`charge` is told for how many seconds a client's image was decoded."""
        self._settings, self._charge = settings, charge
        self._processes, self._timeout_s = settings.decoder_processes, settings.decode_s
        self.turns = Turns(self._processes, memory_bytes)
        self._bounds = settings.max_pixels, _most_bytes(settings)
        """Of a decoder process: pixels of an image, and memory beyond what it starts with."""
        self._deaths: dict[bytes, int] = {}
        """{digest of a file: how many decoders died of it since it was last decoded}."""

    async def start(self) -> None:
        """Start all processes, so that the first images do not wait for them."""

        async def start_one() -> None:
            work = Work(None, 0, 0, is_large=False)
            await self.turns.take(work)  # or else a first image would start one more
            try:
                await _run(_confine, *self._bounds)
            finally:
                self.turns.end(work)

        await asyncio.gather(*(start_one() for _ in range(self._processes)), return_exceptions=True)

    def pixels(self, data: bytes) -> int:
        """Of a file's image by its header; none where it is refused without being decoded. Raises
        ImageError where they are more than allowed."""
        if not (header := declared(data)):
            allowed = self._settings.formats
            told = {*allowed} <= {*FORMATS, *NEVER}
            return 0 if told and recognise(data) not in allowed else USUAL_PIXELS
        if header.pixels > self._settings.pixels_of(header.format):
            raise self._too_large(header.format, header.pixels)
        return header.pixels

    async def __call__(
        self, data: bytes, size: int, rule: ImageRule, client: Hashable
    ) -> np.ndarray:
        """File bytes -> (size, size, 3) uint8. Raises ImageError."""
        self.pixels(data)
        form, header = recognise(data), declared(data)
        # No more than there are turn and memory for, whatever a decoder finds behind the header.
        most = header.pixels if header else self._settings.pixels_of(form)
        limits = Limits(most, self._settings.max_aspect)
        formats = self._settings.formats
        for _ in range(ATTEMPTS):
            self._check_deaths(data)
            work = self._work(client, data, size, form, header)
            try:
                image_SS3 = await self._attempt(
                    work, data, size, formats, rule, limits, self._bounds, work.is_large
                )
            except ImageError as error:
                if error.what == "pixels" and error.seen:
                    raise self._too_large(form, int(error.seen)) from None
                raise
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

    def _too_large(self, form: str, seen: int) -> ImageError:
        limit, what, of = self._settings.pixels_of(form), "pixels", ""
        if seen <= limit:
            text = f"the image is damaged: it has {seen:,} pixels, and its header declares fewer"
            return ImageError("damaged", text)
        if limit < self._settings.max_pixels:
            what, of = "whole_pixels", f" for {form}" if form else " for its format"
        text = f"the image has {seen:,} pixels; the limit{of} is {limit:,}"
        return ImageError("too-large", text, what, limit, seen)

    def _work(
        self, client: Hashable, data: bytes, size: int, form: str, header: Declared | None
    ) -> Work:
        """What it takes to decode an image. Raises ImageError where there is not so much."""
        if header:
            effort, need = header.effort, header.decoded_bytes(size)
        else:
            effort = self._settings.pixels_of(form)
            need = bytes_per_pixel(form) * effort
        need += FILE_COPIES * len(data)
        if need > (limit := self.turns.memory_bytes):
            text = (
                f"decoding the image may take {need / 1e6:,.0f} MB of memory, and the server has "
                f"{limit / 1e6:,.0f} MB for it; send a smaller image"
            )
            raise ImageError("too-large", text, "memory", limit, need)
        return Work(client, effort, need, is_large=effort > SMALL)

    def _check_deaths(self, data: bytes) -> None:
        if self._deaths and self._deaths.get(_digest(data), 0) >= DEATHS:
            raise ImageError("damaged", f"the image is damaged: its decoder crashed {DEATHS} times")

    def _remember(self, data: bytes) -> None:
        digest = _digest(data)
        self._deaths[digest] = self._deaths.pop(digest, 0) + 1
        if len(self._deaths) > REMEMBERED:
            del self._deaths[next(iter(self._deaths))]

    async def _attempt(self, work: Work, *arguments: Any) -> np.ndarray:
        """Decode in a free process. Where nobody waits for it any more, what has begun goes on for
        LEFT_S, in its place among the processes."""
        await self.turns.take(work)  # waiting for a process is not decoding

        async def decode() -> np.ndarray:
            started_s = time.perf_counter()
            try:
                with anyio.fail_after(self._timeout_s):
                    return await _run(_decode, *arguments)
            finally:
                # A header says little of what makes a decoder slow.
                took_s = time.perf_counter() - started_s
                self.turns.end(work, EFFORT_PER_S * took_s)
                self._charge(work.client, took_s)

        decoding = asyncio.ensure_future(decode())
        try:
            await asyncio.wait({decoding})
        except asyncio.CancelledError:
            end = asyncio.get_running_loop().call_later(LEFT_S, decoding.cancel)
            decoding.add_done_callback(lambda _: end.cancel())
            decoding.add_done_callback(lambda _: decoding.cancelled() or decoding.exception())
            raise
        return decoding.result()


def _most_bytes(settings: Settings) -> int:
    """What decoding one image may take, of those that the settings let in."""
    decoded = (bytes_per_pixel(form) * settings.pixels_of(form) for form in settings.formats)
    return max(decoded) + FILE_COPIES * settings.max_upload_bytes + SLACK_BYTES


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


async def _run(function: Callable[..., T], *arguments: Any) -> T:
    """Call the function in a process, which is killed where nobody waits for it any more."""
    return await anyio.to_process.run_sync(
        function, *arguments, cancellable=True, limiter=CapacityLimiter(math.inf)
    )


def _decode(
    data: bytes,
    size: int,
    formats: tuple[str, ...],
    rule: ImageRule,
    limits: Limits,
    bounds: tuple[int, int],
    is_large: bool,
) -> np.ndarray:
    behind = _confine(*bounds)
    arguments = data, size, formats, rule, limits
    try:
        if is_large:
            return behind.submit(whole_image, *arguments).result()
        return whole_image(*arguments)
    except ImageError as error:
        if error.kind == "not-an-image":
            raise named(error, data, formats) from None
        raise


@cache
def _confine(max_pixels: int, memory_bytes: int) -> ThreadPoolExecutor:
    """Give up what decoding does not need. Returns the thread for large images."""
    # Ctrl-C, systemd and a terminal that closes signal all processes; the server is the one that
    # ends its decoders.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.nice(NICENESS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    # Some of Pillow's decoders allocate before `Limits` sees the size.
    Image.MAX_IMAGE_PIXELS = max_pixels
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    share_heap()
    # To Linux, niceness is a thread's own; in the sandbox none can change it.
    behind = ThreadPoolExecutor(1, initializer=os.nice, initargs=(MORE_FOR_LARGE,))
    behind.submit(int).result()
    sandbox.enter()
    return behind
