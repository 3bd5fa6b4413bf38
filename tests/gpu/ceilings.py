"""What the machine can do at most: the figures that all others are to be seen against."""

import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median

import torch

from tests.gpu.check import Finding, Setup


def machine(setup: Setup) -> Iterator[Finding]:
    """The parts whose absence explains other failures."""
    yield Finding(f"torch {torch.__version__}, CUDA {torch.version.cuda}", 0)
    if not setup.gpu:
        return
    query = "name,driver_version,memory.total,clocks.sm,clocks.mem"
    words = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    yield Finding(subprocess.run(words, capture_output=True, text=True).stdout.strip(), 0)
    libraries = "ldconfig -p; ls /usr/local/nvidia/lib64 /usr/local/nvidia/lib"
    listed = subprocess.run(libraries, shell=True, capture_output=True, text=True).stdout
    for name in ("libnvcuvid", "libnvidia-ml"):
        yield Finding(f"{name} is missing", float(name not in listed), 0)


def ceilings(setup: Setup) -> Iterator[Finding]:
    """A matrix product, a copy within the memory, and copies to and from the processor's."""
    side, size, host = (8192, 2**31, 2**28) if setup.gpu else (256, 2**20, 2**20)
    a, b = (torch.randn(side, side, device=setup.device, dtype=torch.bfloat16) for _ in range(2))
    yield Finding(
        "matrix product, bfloat16",
        2 * side**3 / seconds(setup, lambda: a @ b) / 1e12,
        unit="TFLOP/s",
    )
    x = torch.empty(size, dtype=torch.uint8, device=setup.device)
    y = torch.empty_like(x)
    yield Finding(
        "copy, read and written", 2 * size / seconds(setup, lambda: y.copy_(x)) / 1e9, unit="GB/s"
    )
    for pinned in (False, True) if setup.gpu else (False,):
        there = torch.empty(host, dtype=torch.uint8, device=setup.device)
        here = torch.empty(host, dtype=torch.uint8, pin_memory=pinned)
        kind = "pinned" if pinned else "pageable"
        up = seconds(setup, partial(there.copy_, here, non_blocking=True))
        down = seconds(setup, partial(here.copy_, there, non_blocking=True))
        yield Finding(f"upload, {kind}", host / up / 1e9, unit="GB/s")
        yield Finding(f"download, {kind}", host / down / 1e9, unit="GB/s")


def seconds(setup: Setup, function: Callable[[], object], repeat: int = 15) -> float:
    """The median of some calls, each waited for."""
    took = []
    for _ in range(5 + repeat):
        began = time.perf_counter()
        function()
        if setup.gpu:
            torch.cuda.synchronize()
        took.append(time.perf_counter() - began)
    return median(took[5:])
