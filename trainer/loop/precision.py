"""The numbers in which the network multiplies, and whether they repeat to the bit."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of a forward pass in `precision` on `device`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` -> what this hardware is fastest in; emulated bfloat16 is slower by far."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        can = torch.cpu.get_capabilities()
        native = bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    return "bf16" if native else "fp32"


@contextmanager
def algorithms(*, repeatable: bool) -> Iterator[None]:
    """For the length of a block, GPUs compute by algorithms that repeat to the bit; or else
    convolutions by those that cuDNN finds fastest, by trying, for each new shape of a batch.

    cuBLAS reads the size of its workspace when the process first multiplies on a GPU.
    """
    cudnn, variable = torch.backends.cudnn, "CUBLAS_WORKSPACE_CONFIG"
    before = cudnn.deterministic, cudnn.benchmark
    strict = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    memory: Any = torch.utils.deterministic
    fills, workspace = memory.fill_uninitialized_memory, os.environ.get(variable)
    cudnn.benchmark = not (repeatable or cudnn.deterministic)
    if repeatable:
        cudnn.deterministic = True
        os.environ.setdefault(variable, ":4096:8")
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False  # nothing reads it
    try:
        yield
    finally:
        memory.fill_uninitialized_memory = fills
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        cudnn.deterministic, cudnn.benchmark = before
        if workspace is None:
            os.environ.pop(variable, None)
