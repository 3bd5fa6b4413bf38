"""Workers that outlive their raylet, Ray's process that has started them."""

import os
import signal
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
VARIABLE = b"RAY_RAYLET_PID="
"""In the environment of a worker."""


def find_raylets() -> frozenset[int]:
    """The raylets that this process has started."""
    return frozenset(
        pid for pid in _pids() if _parent(pid) == os.getpid() and _program(pid) == b"raylet"
    )


def kill_workers(raylets: frozenset[int]) -> None:
    """End what workers of these raylets are still there, at once."""
    marks = {VARIABLE + str(raylet).encode() for raylet in raylets}
    for pid in _pids() if marks else ():
        if not marks.isdisjoint(_read(pid, "environ").split(b"\0")):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _pids() -> list[int]:
    return [int(entry.name) for entry in PROC.glob("[0-9]*")]


def _parent(pid: int) -> int | None:
    fields = _read(pid, "stat").rpartition(b")")[2].split()  # a program's name may hold anything
    return int(fields[1]) if fields else None


def _program(pid: int) -> bytes:
    """The name of its file."""
    return _read(pid, "cmdline").partition(b"\0")[0].rpartition(b"/")[2]


def _read(pid: int, what: str) -> bytes:
    """Empty where the process has ended, or is another user's."""
    try:
        return (PROC / f"{pid}" / what).read_bytes()
    except OSError:
        return b""
