"""A server under measurement: its process and all below it."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import psutil

from alexnet.command import UserError
from tests.benchmarks import harness
from tests.benchmarks.serving.load import HOST

POLL_S = 0.05
START_S, STOP_S = 120.0, 10.0
"""How long a server may take to be ready, and to end."""


@dataclass(frozen=True)
class Memory:
    """The memory of one process."""

    resident_bytes: int
    proportional_bytes: int
    """Pages that several processes share, divided among them."""


class Server:
    """Runs `python -m` with `words` and a free `--port` for the length of a block.

    `ready` is the path that answers 200 once requests may come. Raises UserError where that does
    not happen, with the end of what the server wrote.
    """

    def __init__(
        self, *words: object, ready: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.port = _free_port()
        self._words = [sys.executable, "-m", *map(str, words), "--port", str(self.port)]
        self._ready = ready
        self._environment = os.environ | (environment or {})

    def __enter__(self) -> Self:
        self._log = tempfile.TemporaryFile()
        start = time.perf_counter()
        self._process = psutil.Popen(
            self._words,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env=self._environment,
            start_new_session=True,  # Ctrl-C is the benchmark's, which ends its servers itself
        )
        try:
            while not self._answers():
                self._check_alive(time.perf_counter() - start)
                time.sleep(POLL_S)
        except BaseException:
            self.__exit__()
            raise
        self.cold_start_s = time.perf_counter() - start
        """Time from the server's start to its first 200."""
        return self

    def __exit__(self, *_: object) -> None:
        tree = harness.of_tree(lambda process: process, self._process)
        with suppress(psutil.NoSuchProcess):
            self._process.terminate()
        psutil.wait_procs([self._process], timeout=STOP_S)
        with suppress(ProcessLookupError):  # what the first process has left behind
            os.killpg(self._process.pid, signal.SIGKILL)
        psutil.wait_procs(tree)
        self._log.close()

    def cpu_s(self) -> float:
        """User and system time of all processes, those that have ended included."""
        return harness.cpu_s(self._process)

    def resident_bytes(self) -> int:
        infos = harness.of_tree(psutil.Process.memory_info, self._process)
        return sum(info.rss for info in infos)

    def memory(self) -> list[Memory]:
        """The memory of each process, the first one first."""
        infos = harness.of_tree(psutil.Process.memory_full_info, self._process)
        return [Memory(info.rss, info.pss) for info in infos]

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body. Raises OSError."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _answers(self) -> bool:
        try:
            return self.get(self._ready)[0] == 200
        except OSError:
            return False

    def _check_alive(self, waited_s: float) -> None:
        ended = self._process.poll() is not None
        if ended or waited_s > START_S:
            self._log.seek(0)
            written = self._log.read().decode(errors="replace").strip()
            raise UserError(
                f"{' '.join(self._words)}: {'ended' if ended else 'not ready'} after "
                f"{waited_s:.0f} s; the end of its output:\n{written[-2000:]}"
            )


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        return listening.getsockname()[1]
