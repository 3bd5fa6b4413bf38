"""python -m tests.benchmarks.step: forward pass and training step beside their peers."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from typer import Argument

from pipeline.cluster import MEMORY
from tests.benchmarks.contender import Contender, compete
from tests.benchmarks.harness import Device, Goal, Measurement, Network, report, run
from tests.benchmarks.step import contenders
from tests.benchmarks.step.contenders import Task, flops_per_image
from tests.benchmarks.step.launchers import WORKERS, Pair, ray_train, torchrun
from tests.benchmarks.step.parity import compare
from trainer.loop.precision import resolve_precision
from trainer.recipes import small

COMPILED = "torch.compile"
CONTENDERS: dict[str, tuple[Any, ...]] = {
    "ours": (contenders.ours,),
    "eager, float32": (contenders.eager, "fp32"),
    "eager, float32, memory kept": (contenders.eager, "fp32"),
    "eager, bfloat16": (contenders.eager, "bf16"),
    COMPILED: (contenders.eager, "auto", True),
    "matrix products alone": (contenders.products,),
}
"""{name: (generator function, what it is called with after the task)}."""
PAIR_STEPS = 5
"""Between two looks of the workers at what they are told."""

GOALS = (
    Goal("ours, forward", "eager, float32, forward", 3.0),
    Goal("ours, forward", "eager, bfloat16, forward", 1.0),
    Goal("ours, forward", "torch.compile, forward", 1.0),
    Goal("ours, forward", "matrix products alone, forward", 0.75),
    Goal("ours, step", "eager, float32, step", 2.2),
    Goal("ours, step", "eager, bfloat16, step", 1.0),
    Goal("ours, step", "torch.compile, step", 1.0),
    Goal("ours, step", "matrix products alone, step", 0.75),
    Goal("Ray Train, 2 workers", "torchrun, 2 workers", 0.97),
)

GPU_GOALS = tuple(Goal(goal.first, goal.second, None, "per_s", "per second") for goal in GOALS)
"""Goals per second: the processor's time says nothing of a GPU."""

Part = Literal["parity", "forward", "step", "launchers"]


class Step(Network):
    """Measure the forward pass and the training step beside what others would write.

    Every contender works alone, in its own process, on the same noise; once a round, in an order
    that rotates.
    """

    parts: Annotated[tuple[Part, ...], Argument()] = ("parity", "forward", "step", "launchers")
    """What is measured."""
    rounds: int = Field(5, ge=1)
    """Measurements of each contender."""
    seconds: float = Field(5.0, gt=0)
    """Least length of a measurement."""
    threads: int = Field(2, ge=1)
    """Threads of each contender."""
    batch: int = Field(64, ge=1)
    """Images of a batch."""
    device: Device = "cpu"
    """Where the network computes; on cuda neither parity nor launchers are measured."""
    curve_steps: int = Field(50, ge=1)
    """Steps whose losses are compared."""
    curve_batch: int = Field(32, ge=1)
    """Images of each of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("step", Step, bench, arguments)


def bench(options: Step) -> int:
    # What a compiler's pool does would count as its contender's time.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    torch.set_num_threads(options.threads)
    network = options.network
    obstacle = _obstacle_to_compiling()
    parity = None
    gpu = options.device == "cuda"
    if "parity" in options.parts and not gpu:
        print("comparing logits and losses", flush=True)
        parity = compare(network, options.curve_steps, options.curve_batch)
    measurements: dict[str, list[Measurement]] = {}
    with tempfile.TemporaryDirectory(prefix="bench.") as folder:
        for kind in ("forward", "step"):
            if kind in options.parts:
                step = kind == "step"
                task = Task(network, options.batch, options.threads, step, options.device)
                measurements |= _measure(_contenders(kind, task, obstacle), options)
        if "launchers" in options.parts and not gpu:
            measurements |= _measure(_pairs(folder), options)
        memory = {path.stem: json.loads(path.read_bytes()) for path in Path(folder).glob("*.json")}
    precision = resolve_precision("auto", torch.device(options.device))
    flops = {kind: flops_per_image(network, kind == "step") for kind in ("forward", "step")}
    texts = [
        f"ours, {COMPILED} and the matrix products in {precision}",
        ", ".join(f"{kind} {count / 1e9:.3f} GFLOP an image" for kind, count in flops.items()),
        *_memory(memory),
    ]
    if obstacle:
        texts.append(f"{COMPILED} is left out, since it does not work here ({obstacle})")
    if parity:
        texts.append(str(parity))
    goals = GPU_GOALS if gpu else GOALS
    report(
        "images", measurements, goals, options, texts, precision=precision, flops_per_image=flops,
        memory_bytes=memory, left_out={COMPILED: obstacle} if obstacle else {},
        parity=parity and parity.model_dump(),
    )  # fmt: skip
    return 0


def _contenders(kind: str, task: Task, obstacle: str | None) -> Iterator[Contender]:
    """Ours with the memory settings of our workers, others as their users have it; one with both,
    to tell what the settings do from what the code does."""
    for name, (deliver, *words) in CONTENDERS.items():
        if not (obstacle and name == COMPILED):
            kept = name == "ours" or name.endswith("memory kept")
            environment = MEMORY if kept else {}
            yield Contender(f"{name}, {kind}", 1, deliver, task, *words, environment=environment)


def _pairs(folder: str) -> Iterator[Contender]:
    """Recipe `small` on two workers of a thread each; equal but for their launcher."""
    recipe = small()
    pair = Pair(recipe.network.model_dump(), recipe.batch, PAIR_STEPS, folder)
    environment = MEMORY | {"OMP_NUM_THREADS": "1"}
    yield Contender("Ray Train, 2 workers", 1, ray_train, pair, environment=environment)
    yield Contender("torchrun, 2 workers", 1, torchrun, pair, environment=environment)


def _measure(taking_part: Iterator[Contender], options: Step) -> dict[str, list[Measurement]]:
    """Each is started, compiled and warm before the next one is."""
    with ExitStack() as stack:
        ready = []
        for contender in taking_part:
            ready.append(stack.enter_context(contender))
            _ = contender.kind
            print(f"ready: {contender.name}", flush=True)
        return compete(ready, options.rounds, options.seconds)


def _obstacle_to_compiling() -> str | None:
    """Why torch.compile does not work here, if so: most often there is no C++ compiler."""
    try:
        torch.compile(torch.sin)(torch.ones(1))
    except Exception as error:  # of whatever part of the compiler
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    return None


def _memory(used: dict[str, dict[str, int]]) -> Iterator[str]:
    """A line for each launcher that was measured; `used` is by launcher and rank."""
    for name in ("ray", "torchrun"):
        if workers := [memory for worker, memory in used.items() if worker.startswith(name)]:
            peak, proportional = (
                sum(memory[kind] for memory in workers) / 2**20 for kind in ("peak", "proportional")
            )
            yield f"{name}: {WORKERS} workers hold {proportional:,.0f} MiB, at most {peak:,.0f} MiB"


if __name__ == "__main__":
    sys.exit(main())
