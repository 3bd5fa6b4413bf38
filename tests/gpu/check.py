"""One check of the kit: what it is given, what it finds, and how it is run by itself."""

import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

INTERRUPTED = "interrupted"
"""The error of a check during which Ctrl-C was pressed."""


class Finding(NamedTuple):
    """One figure."""

    case: str
    value: float
    at_most: float | None = None
    """The bound that it must keep; None where it is only measured."""
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Also false for a value that is not a number."""
        return self.at_most is None or self.value <= self.at_most


@dataclass(frozen=True)
class Setup:
    """Where a check runs, and where it finds its data."""

    device: str
    """cuda, or cpu: then every check runs at small size, as a rehearsal."""
    folder: Path
    """For what the checks write."""
    photographs: Path | None = None
    """Class folders; None takes drawn images."""

    @property
    def size(self) -> int:
        """Rows and columns of the packed images: the paper's, or half of them on a CPU."""
        return 256 if self.gpu else 128

    @property
    def dataset(self) -> Path:
        """Packed by the first of all checks; others for other photographs and another size."""
        source = str(self.photographs.absolute()) if self.photographs else "drawn"
        return self.folder / f"packed-{sha256(source.encode()).hexdigest()[:8]}-{self.size}"

    @property
    def gpu(self) -> bool:
        return self.device == "cuda"

    @property
    def device_id(self) -> int | None:
        """As `pipeline.order.Shard` takes it."""
        return 0 if self.gpu else None

    @property
    def torch_device(self) -> torch.device:
        return torch.device("cuda", 0) if self.gpu else torch.device("cpu")


class Check(NamedTuple):
    function: Callable[[Setup], Iterator[Finding]]
    limit_s: float
    """After so long it is ended, and counts as failed."""

    @property
    def name(self) -> str:
        return self.function.__name__


class Outcome(NamedTuple):
    """What came of a check."""

    check: str
    findings: list[Finding]
    error: str
    """Why it did not come to its end; empty if it did."""
    seconds: float

    @property
    def interrupted(self) -> bool:
        return self.error == INTERRUPTED

    @property
    def passed(self) -> bool:
        return not self.error and all(finding.passed for finding in self.findings)


def run(check: Check, setup: Setup, say: Callable[[dict], None]) -> Outcome:
    """Run a check in a process of its own, so that its crash or hang is its own as well. `say` is
    given every finding as it comes."""
    spawn = get_context("spawn")  # neither CUDA nor DALI survives a fork
    ours, theirs = spawn.Pipe(duplex=False)
    log = setup.folder / "logs" / f"{check.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    process = spawn.Process(target=_work, args=(theirs, check, setup, log), name=check.name)
    began = time.monotonic()
    process.start()
    theirs.close()  # the only other end is the process's: its death reads as end of file
    findings, error = [], f"took longer than {check.limit_s:g} s"
    try:
        while (left := check.limit_s - (time.monotonic() - began)) > 0 and ours.poll(left):
            word = ours.recv()
            if isinstance(word, str):
                error = word
                break
            findings.append(word)
            say({"check": check.name, **word._asdict(), "passed": word.passed})
    except EOFError:
        process.join(10)
        error = f"its process ended with status {process.exitcode}: {_last_line(log)}"
    except KeyboardInterrupt:
        error = INTERRUPTED
    _end(process.pid)
    process.join()
    seconds = time.monotonic() - began
    say({"check": check.name, "error": error, "seconds": round(seconds, 1)})
    return Outcome(check.name, findings, error, seconds)


def _work(pipe: Connection, check: Check, setup: Setup, log: Path) -> None:
    """The body of the process: findings, then the error, empty if there is none."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    torch.backends.cudnn.allow_tf32 = False  # fewer bits only where a check is about them
    try:
        for finding in check.function(setup):
            pipe.send(finding)
        error = ""
    except BaseException as failure:
        traceback.print_exc()
        error = f"{type(failure).__name__}: {failure}"[:2000]
    pipe.send(error)


def _end(pid: int | None) -> None:
    """End a process and all that it has started."""
    try:
        root = psutil.Process(pid)
        tree = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(tree, timeout=10)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it wrote nothing"
