"""How images for a GPU are decoded fastest: by its JPEG engines, in CUDA, or on the CPU. Found by
trying, beside training, and remembered."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from alexnet import atomic
from alexnet.cache import cache_folder
from alexnet.command import UserError
from pipeline.batches import Batch, Batches

HW_LOADS = 0.0, 0.15, 0.3, 0.5, 0.65, 0.8, 1.0
"""`Decoding.hw_load` where the GPU decodes. Which is best, and whether the CPU is faster, depends
on how many processor threads are beside the GPU, on the size of the files, and on how much of the
GPU is left to decoding."""
FIRST = 0.0, 0.65, 1.0
"""Of HW_LOADS those that are tried in any case: a trial takes seconds."""
WARM_UP, MEASURED = 3, 24
TRIAL = WARM_UP + MEASURED
"""Batches."""

Circumstances = dict[str, str | int]
"""All that the best share depends on."""


class Finding(BaseModel):
    """The file in which a search is remembered."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    circumstances: Circumstances
    hw_load: float | None = Field(ge=0, le=1)


def remembered(circumstances: Circumstances, search: Callable[[], float | None]) -> float | None:
    """What was found under these circumstances before; else what `search` finds now, kept in the
    user's cache. Where nothing can be kept, every start searches."""
    with suppress(OSError, ValueError, RuntimeError):  # none, damaged, a user without a home
        finding = Finding.model_validate_json(_place(circumstances).read_bytes())
        if finding.circumstances == circumstances:
            return finding.hw_load
    finding = Finding(circumstances=circumstances, hw_load=search())
    with suppress(OSError, UserError, RuntimeError):
        path = _place(circumstances)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(path, finding.model_dump_json(indent=2).encode())
    return finding.hw_load


def _place(circumstances: Circumstances) -> Path:
    content = json.dumps(circumstances, sort_keys=True).encode()
    return cache_folder() / "hw_load" / f"{hashlib.sha256(content).hexdigest()[:16]}.json"


def fastest(rate: Callable[[float | None], float]) -> float | None:
    """The element of HW_LOADS with the highest rate, or None if that of the CPU is as high.

    The rate must rise up to the best load and fall beyond: from the best of FIRST, its neighbours
    are tried until there is no better one.
    """
    of_cpu = rate(None)
    rates = {load: rate(load) for load in FIRST}
    while True:
        best = max(rates, key=rates.__getitem__)
        place = HW_LOADS.index(best)
        near = [load for load in HW_LOADS[max(0, place - 1) : place + 2] if load not in rates]
        if not near:
            return best if rates[best] > of_cpu else None
        rates[near[0]] = rate(near[0])


def training_rate(batches: Batches, step: Callable[[Batch], Tensor]) -> float:
    """Images a second, after warm-up, when `step` takes batch after batch: it starts a step on the
    device, and returns what is there once the step is done."""
    for batch in islice(batches, WARM_UP):
        done = step(batch)
    done.tolist()
    start, images = time.perf_counter(), 0
    for batch in islice(batches, MEASURED):
        done = step(batch)
        images += len(batch.label_N)
    done.tolist()
    return images / (time.perf_counter() - start)
