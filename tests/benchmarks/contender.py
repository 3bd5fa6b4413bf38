"""One contender of a benchmark: a process of its own, measured over stretches of time."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from alexnet.command import UserError
from tests.benchmarks.harness import Measurement, cpu_s, measure

REST_INTERVAL_S = 0.2
REST_LOAD = 0.1
"""Load, in cores, below which a contender rests; looking costs a few hundredths itself."""

Delivery = Tensor | np.ndarray
"""A batch of images, or one number for each; the first axis counts images."""


class Contender:
    """Works while it is measured and rests in between. A context manager.

    `deliver` is called with `arguments` in the new process, which has the variables of
    `environment` as well, and yields without end.
    `warm_up` deliveries before each measurement are not measured: more than it prefetches.
    """

    def __init__(
        self,
        name: str,
        warm_up: int,
        deliver: Callable[..., Iterator[Delivery]],
        *arguments: Any,
        environment: dict[str, str],
    ) -> None:
        self.name = name
        spawn = multiprocessing.get_context("spawn")  # DALI and OpenMP do not survive a fork
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_work, args=(theirs, warm_up, deliver, arguments))
        before = dict(os.environ)
        os.environ.update(environment)  # which the new process reads before it runs any code
        self._process.start()
        os.environ.clear()
        os.environ.update(before)
        theirs.close()  # the only other end is the process's: its death reads as end of file

    def __enter__(self) -> "Contender":
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join()

    @cached_property
    def kind(self) -> tuple[str, tuple[int, ...]]:
        """dtype and shape of one delivered image; waits until the contender has started."""
        return self._answer()

    def measured(self, seconds: float) -> Measurement:
        """Measure for at least `seconds`, after the warm-up. Raises UserError if it has died."""
        return self._answer(seconds)

    def _answer(self, *question: float) -> Any:
        try:
            for word in question:
                self._pipe.send(word)
            return self._pipe.recv()
        except (EOFError, ConnectionError):
            raise UserError(f"{self.name}: the process ended; its error is printed above") from None


def compete(
    contenders: list[Contender], rounds: int, seconds: float
) -> dict[str, list[Measurement]]:
    """{contender: its measurement of each round}; the order rotates."""

    def visit(number: int) -> Iterator[tuple[str, Measurement]]:
        turn = number % len(contenders)
        for contender in contenders[turn:] + contenders[:turn]:
            yield contender.name, contender.measured(seconds)

    return measure(rounds, visit)


def _work(
    pipe: Connection, warm_up: int, deliver: Callable[..., Iterator[Delivery]], arguments: tuple
) -> None:
    """The body of the process, until the other end of the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which closes the pipe
    deliveries = deliver(*arguments)
    first = next(deliveries)
    answer: Any = (str(first.dtype).removeprefix("torch."), tuple(first.shape[1:]))
    while True:
        _rest()
        try:
            pipe.send(answer)
            seconds = pipe.recv()
        except (EOFError, ConnectionError):
            return
        for _ in range(warm_up):
            next(deliveries)
        answer = _measure(deliveries, seconds)


def _measure(deliveries: Iterator[Delivery], seconds: float) -> Measurement:
    here = psutil.Process()
    wait_for_gpu()
    images, before_s, start = 0, cpu_s(here), time.perf_counter()
    while time.perf_counter() - start < seconds:
        images += len(next(deliveries))
    wait_for_gpu()
    wall_s = time.perf_counter() - start
    return Measurement(images, wall_s, cpu_s(here) - before_s)


def wait_for_gpu() -> None:
    """Until it has done what it was given, where one is used."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _rest() -> None:
    """Wait until all queues are full again: the next contender has the machine to itself."""
    here, before_s = psutil.Process(), -1.0
    while (now_s := cpu_s(here)) - before_s > REST_LOAD * REST_INTERVAL_S:
        before_s = now_s
        time.sleep(REST_INTERVAL_S)
