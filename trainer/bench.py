"""python -m trainer.bench: the forward pass and the training step beside what others would write.

Every contender works alone, in its own process, on the same noise; once a round, in an order that
rotates. What counts is images per second of CPU time over all its processes, and the ratio of two
contenders within a round: other work on the machine moves both alike. Needs the extra `bench`.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from alexnet.benchmark import machine
from alexnet.command import Parser, UserError, run
from alexnet.model import AlexNetConfig
from pipeline.cluster import MEMORY
from pipeline.contender import Contender, compete
from pipeline.scores import Goal, Scores, Windows
from trainer import peers
from trainer.launchers import WORKERS, Pair, ray_train, torchrun
from trainer.loop.precision import resolve_precision
from trainer.parity import Parity, compare
from trainer.peers import CPU, Task, flops_per_image
from trainer.recipe import small

PARTS = ("parity", "forward", "step", "launchers")
PACKAGES = ("torch", "numpy", "psutil", "ray")

DELIVER: dict[str, Callable[[Task], Iterator[Tensor]]] = {
    "ours": peers.ours,
    "eager, float32": peers.eager_float32,
    "eager, float32, memory kept": peers.eager_float32,
    "eager, bfloat16": peers.eager_bfloat16,
    "torch.compile": peers.compiled,
    "matrix products alone": peers.products,
}
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


def main(arguments: list[str] | None = None) -> int:
    return run(_parser(), arguments)


def _bench(options: argparse.Namespace) -> int:
    numbers = ("rounds", "batch", "threads", "curve_steps", "curve_batch")
    if min(getattr(options, name) for name in numbers) < 1 or options.seconds <= 0:
        raise UserError("--rounds, --batch, --threads, --seconds and --curve-… must be above zero")
    # What a compiler's pool does would count as its contender's time.
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    torch.set_num_threads(options.threads)
    network = AlexNetConfig(width=options.width, crop=options.crop)
    obstacle = _obstacle_to_compiling()
    parity = None
    if "parity" in options.parts:
        print("comparing logits and losses", flush=True)
        parity = compare(network, options.curve_steps, options.curve_batch)
    windows: Windows = {}
    with tempfile.TemporaryDirectory(prefix="bench.") as folder:
        for kind in ("forward", "step"):
            if kind in options.parts:
                task = Task(network, options.batch, options.threads, kind == "step")
                windows |= _measure(_contenders(kind, task, obstacle), options)
        if "launchers" in options.parts:
            windows |= _measure(_pairs(folder), options)
        memory = {path.stem: json.loads(path.read_bytes()) for path in Path(folder).glob("*.json")}
    _report(windows, parity, memory, obstacle, network, options)
    return 0


def _contenders(kind: str, task: Task, obstacle: str | None) -> Iterator[Contender]:
    """Ours with the memory settings of our workers, others as their users have it; one with both,
    to tell what the settings do from what the code does."""
    for name, deliver in DELIVER.items():
        if not (obstacle and deliver is peers.compiled):
            yield Contender(f"{name}, {kind}", 1, deliver, task, environment=_environment(name))


def _environment(name: str) -> dict[str, str]:
    return MEMORY if name == "ours" or name.endswith("memory kept") else {}


def _pairs(folder: str) -> Iterator[Contender]:
    """Recipe `small` on two workers of a thread each; equal but for their launcher."""
    recipe = small()
    pair = Pair(recipe.network.model_dump(), recipe.batch, PAIR_STEPS, folder)
    environment = MEMORY | {"OMP_NUM_THREADS": "1"}
    yield Contender("Ray Train, 2 workers", 1, ray_train, pair, environment=environment)
    yield Contender("torchrun, 2 workers", 1, torchrun, pair, environment=environment)


def _measure(contenders: Iterator[Contender], options: argparse.Namespace) -> Windows:
    """Each is started, compiled and warm before the next one is."""
    with ExitStack() as stack:
        ready = []
        for contender in contenders:
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


def _report(
    windows: Windows,
    parity: Parity | None,
    memory: dict[str, dict[str, int]],
    obstacle: str | None,
    network: AlexNetConfig,
    options: argparse.Namespace,
) -> None:
    scores = Scores.of(windows, GOALS)
    flops = {step: flops_per_image(network, step == "step") for step in ("forward", "step")}
    precision = resolve_precision("auto", CPU)
    print(f"\n{scores.table()}\n")
    print(f"ours, torch.compile and the matrix products in {precision}")
    if obstacle:
        print(f"torch.compile is left out, since it does not work here ({obstacle})")
    print(", ".join(f"{step} {count / 1e9:.3f} GFLOP an image" for step, count in flops.items()))
    for name in ("ray", "torchrun"):
        if not (workers := [used for worker, used in memory.items() if worker.startswith(name)]):
            continue
        peak, proportional = (
            sum(used[kind] for used in workers) / 2**20 for kind in ("peak", "proportional")
        )
        print(f"{name}: {WORKERS} workers hold {proportional:,.0f} MiB, at most {peak:,.0f} MiB")
    if parity:
        print(parity)
    everything = asdict(scores) | {
        "precision": precision,
        "parity": parity and parity.model_dump(),
        "flops_per_image": flops,
        "memory_bytes": memory,
        "left_out": {"torch.compile": obstacle} if obstacle else {},
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "options": {name: value for name, value in vars(options).items() if name != "run"},
    }
    print(json.dumps(everything))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m trainer.bench", description=__doc__)
    parser.set_defaults(run=_bench)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured (all of it)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="windows of each (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="at least, for each window (%(default)s)"
    )
    parser.add_argument("--threads", type=int, default=2, help="of each (%(default)s)")
    parser.add_argument("--batch", type=int, default=64, help="images (%(default)s)")
    parser.add_argument("--width", type=float, default=1.0, help="of the network (%(default)s)")
    parser.add_argument("--crop", type=int, default=224, help="rows and columns (%(default)s)")
    parser.add_argument(
        "--curve-steps", type=int, default=50, help="whose losses are compared (%(default)s)"
    )
    parser.add_argument("--curve-batch", type=int, default=32, help="images (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
