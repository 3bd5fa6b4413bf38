"""Photographs to squares, none of which takes a task down, or keeps it for ever.

What a JPEG takes is known from its bytes (alexnet.bounds). Of any other format it is not, so these
are decoded in a process of their own, which ends when it takes too much.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from typing import Self

from PIL import Image

from alexnet import sandbox
from alexnet.bounds import memory_bounded
from alexnet.pixels import (
    MAX_PIXELS,
    PACKED,
    UNLIMITED,
    ImageError,
    ImageRule,
    Limits,
    pillow_takes,
    to_square,
)
from pipeline.manifest import DatasetError

PROCESSOR_S = 10
"""Processor time for one photograph, where up to MAX_PIXELS are allowed; more for more. Most
formats take two or three seconds for 50 million pixels. It is no time of the clock, which runs on
while other work has the processors."""
BYTES_PER_PIXEL = 32
"""What a process may take, for each pixel that is allowed, beyond what it starts with."""
JPEG, JPEG_BYTES = b"\xff\xd8\xff", 32_000_000
"""How a JPEG begins, and the largest whose bytes alone are no reason to bound its time."""
FAULTS = (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL)
"""The signals that end a process for a fault of its own."""


class Decoder:
    """Decodes photographs, in any number of threads. A process that is done waits for the next;
    all end with the block of a `with`."""

    def __init__(
        self,
        limits: Limits = UNLIMITED,
        processor_s: float = PROCESSOR_S,
        bytes_per_pixel: int = BYTES_PER_PIXEL,
    ) -> None:
        self._limits = limits
        self._processor_s = processor_s * max(1, limits.pixels / MAX_PIXELS)
        self._memory_bytes = bytes_per_pixel * limits.pixels
        self._idle: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        while self._idle:
            _end(self._idle.pop())

    def __call__(self, data: bytes, size: int, rule: ImageRule = PACKED) -> Image.Image:
        """`to_square` of a file's bytes. Raises ImageError; and DatasetError where a process was
        ended from outside, which tells nothing of the photograph."""
        if data.startswith(JPEG) and len(data) <= JPEG_BYTES:
            return to_square(data, size, rule=rule, limits=self._limits)
        try:
            process = self._idle.pop()
        except IndexError:
            process = _start(self._memory_bytes)
        assert process.stdin
        assert process.stdout
        try:
            pickle.dump((data, size, rule, self._limits, self._processor_s), process.stdin)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise self._reason(_end(process)) from None
        self._idle.append(process)
        if isinstance(answer, ImageError):
            raise answer
        return answer

    def _reason(self, status: int) -> Exception:
        """Why a process ended before it had decoded its photograph."""
        if status == -signal.SIGPROF:
            limit = f"more than {self._processor_s:g} seconds of processor time"
            return ImageError("too-large", f"decoding the image takes {limit}")
        if -status in FAULTS:
            name = signal.Signals(-status).name
            return ImageError("damaged", f"the image is damaged: its decoder crashed ({name})")
        return DatasetError(
            f"a process that decodes photographs was ended from outside (status {status}), perhaps "
            "because the memory ran out; run the same command again, which keeps finished shards"
        )


def _start(memory_bytes: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.decoder", str(memory_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def _end(process: subprocess.Popen[bytes]) -> int:
    """The status of a process, which ends when there is no more to read for it."""
    assert process.stdin
    assert process.stdout
    with contextlib.suppress(OSError):  # what it did not read any more
        process.stdin.close()
    process.stdout.close()
    return process.wait()


def _serve(memory_bytes: int) -> None:
    """Decode what comes in, in the process that `_start` starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it
    with memory_bounded(memory_bytes), os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # for what libraries print
        sandbox.enter()
        while True:
            try:
                data, size, rule, limits, processor_s = pickle.load(sys.stdin.buffer)
            except (EOFError, pickle.UnpicklingError):
                os._exit(0)  # nothing in the sandbox can lift the bound on memory again
            signal.setitimer(signal.ITIMER_PROF, processor_s)  # its signal ends the process
            try:
                with pillow_takes(limits.pixels):
                    answer: Image.Image | ImageError = to_square(
                        data, size, rule=rule, limits=limits
                    )
            except ImageError as error:
                answer = error
            signal.setitimer(signal.ITIMER_PROF, 0)
            pickle.dump(answer, answers)
            answers.flush()


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
