"""The processes that a process has started, and those that they have."""

import os
import signal
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class Process(NamedTuple):
    pid: int
    parent: int
    started: int
    """In ticks of the kernel's clock; tells a process from another that has its number later."""


def descendants(name: str) -> list[Process]:
    """All processes below those children of this one whose program has this file name."""
    every = [process for entry in PROC.glob("[0-9]*") if (process := _read(int(entry.name)))]
    below = [each for each in every if each.parent == os.getpid() and _program(each.pid) == name]
    found = []
    while below:
        parents = {each.pid for each in below}
        below = [each for each in every if each.parent in parents]
        found += below
    return found


def kill(processes: list[Process]) -> None:
    """End those that are still there, at once."""
    for process in processes:
        now = _read(process.pid)
        if now and now.started == process.started:
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _read(pid: int) -> Process | None:
    """None where it has ended."""
    try:
        text = (PROC / f"{pid}" / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # a program's name may hold anything
    return Process(pid, int(fields[1]), int(fields[19]))


def _program(pid: int) -> str:
    try:
        first = (PROC / f"{pid}" / "cmdline").read_bytes().partition(b"\0")[0]
    except OSError:
        return ""
    return Path(os.fsdecode(first)).name
