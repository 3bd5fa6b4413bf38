"""How much memory there is, and what becomes of freed memory."""

import ctypes
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Options of glibc's mallopt."""


def keep_freed() -> None:
    """Keep freed memory in the process from now on, in one place for all threads.

    glibc would hand every large array of a forward pass back to the kernel and fault it in again.
    To be called before any thread is started. Other C libraries are left as they are.
    """
    share_heap()
    _set(M_TRIM_THRESHOLD, 2**31 - 1)
    _set(M_MMAP_THRESHOLD, 2**31 - 1)


def share_heap() -> None:
    """Have all threads take their memory from one heap, where what one has freed is there for the
    others. To be called before any thread is started."""
    _set(M_ARENA_MAX, 1)


def _set(option: int, value: int) -> None:
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(option, value)


class _Heap(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks",
            "fordblks", "keepcost",
        )
    )  # fmt: skip


class _Group(NamedTuple):
    """A control group that bounds this process's memory."""

    granted: int
    used: int


def granted_bytes() -> int:
    """Memory that this process and those beside it may take: the machine's, or less where a
    container has less."""
    return min([_machine("MemTotal"), *(group.granted for group in _groups())])


def available_bytes() -> int:
    """Memory that can still be taken, with what the kernel would give up for it, and what this
    process has freed and kept."""
    left = [_machine("MemAvailable"), *(group.granted - group.used for group in _groups())]
    return min(left) + _freed_bytes()


def _machine(name: str) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def _freed_bytes() -> int:
    if mallinfo := getattr(ctypes.CDLL(None), "mallinfo2", None):
        mallinfo.restype = _Heap
        return int(mallinfo().fordblks)
    return 0


def _groups() -> Iterator[_Group]:
    """Of both versions of control groups, this process's own and those around it."""
    membership = Path("/proc/self/cgroup")
    for line in membership.read_text().splitlines() if membership.exists() else ():
        _, controllers, place = line.split(":", 2)
        if controllers == "":
            root, limit, usage = Path("/sys/fs/cgroup"), "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root = Path("/sys/fs/cgroup/memory")
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        inner = root / place.lstrip("/")
        # In a container the place may be that outside of it, and what is seen the container's own.
        for folder in {root, *(path for path in (inner, *inner.parents) if root in path.parents)}:
            with suppress(OSError, ValueError):  # "max" is no limit
                granted = int((folder / limit).read_text())
                stat = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
                below = "total_" if "total_inactive_file" in stat else ""
                cached = sum(int(stat[f"{below}{kind}_file"]) for kind in ("inactive", "active"))
                yield _Group(granted, int((folder / usage).read_text()) - cached)
