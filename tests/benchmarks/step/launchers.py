"""The same step on two workers, launched by Ray Train and by torchrun, for the benchmark.

The workers wait in a store of torch.distributed for the number of each stretch of steps, so that
one launcher's rest while the other's are measured.
"""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from alexnet.model import AlexNetConfig
from pipeline.cluster import cluster
from tests.benchmarks.harness import own_bytes
from tests.benchmarks.step.contenders import CPU, LEARNING_RATE, noise, our_network
from trainer.loop.optimizer import SGD2012
from trainer.loop.precision import resolve_precision
from trainer.loop.step import StepPosition, train_step

WORKERS = 2
PATIENCE = timedelta(minutes=10)
"""Time that either side waits for the other."""


@dataclass(frozen=True)
class Pair:
    """What two workers do."""

    network: dict[str, Any]
    """An AlexNetConfig, dumped."""
    batch: int
    """Images of a step, over both."""
    steps: int
    """Steps of a stretch."""
    memory: str
    """Folder for what each worker uses: NAME.RANK.json."""


def ray_train(pair: Pair) -> Iterator[Tensor]:
    """A tensor as long as the images of each stretch, without end."""
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    settings = asdict(pair) | {"name": "ray", "port": store.port}
    with cluster():
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        trainer = TorchTrainer(
            work,
            train_loop_config=settings,
            scaling_config=ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": 1}),
            run_config=RunConfig(name="bench", storage_path=pair.memory),
        )
        fit = threading.Thread(target=trainer.fit, name="fit", daemon=True)
        fit.start()
        try:
            yield from _stretches(store, pair)
        finally:
            fit.join()


def torchrun(pair: Pair) -> Iterator[Tensor]:
    """What `ray_train` yields, by torchrun."""
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    settings = asdict(pair) | {"name": "torchrun", "port": store.port}
    launcher = subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", str(WORKERS), "-m", __name__, json.dumps(settings)),
        ]
    )
    try:
        yield from _stretches(store, pair)
    finally:
        launcher.wait()


def _stretches(store: distributed.TCPStore, pair: Pair) -> Iterator[Tensor]:
    """Asks for stretches of steps and waits for them; tells the workers to end when closed."""
    number = 0
    try:
        while True:
            store.set(f"go {number}", "work")
            store.wait([f"done {number} {rank}" for rank in range(WORKERS)], PATIENCE)
            number += 1
            yield torch.empty(pair.steps * pair.batch)
    finally:
        store.set(f"go {number}", "end")


def work(settings: dict[str, Any]) -> None:
    """The body of a worker, in a process group that its launcher has made."""
    rank = distributed.get_rank()
    store = distributed.TCPStore("127.0.0.1", settings["port"], timeout=PATIENCE)
    torch.manual_seed(0)
    network = AlexNetConfig.model_validate(settings["network"])
    model = our_network(network)
    optimizer = SGD2012(model, LEARNING_RATE)
    parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
    rows = settings["batch"] // WORKERS
    batch = noise(network, rows)
    place = StepPosition(seed=0, epoch=0, position=0, real=rows * WORKERS, first=rows * rank)
    precision = resolve_precision("auto", CPU)
    for number in count():
        if store.get(f"go {number}") == b"end":
            return
        for _ in range(settings["steps"]):
            train_step(parallel, optimizer, batch, place, world=WORKERS, precision=precision)
        path = Path(settings["memory"]) / f"{settings['name']}.{rank}.json"
        path.write_text(json.dumps(memory()))
        store.set(f"done {number} {rank}", "")


def memory() -> dict[str, int]:
    """Bytes of this process: the most it has held, and what it holds with shared pages divided."""
    return {"peak": own_bytes("VmHWM"), "proportional": psutil.Process().memory_full_info().pss}


if __name__ == "__main__":
    distributed.init_process_group("gloo")
    work(json.loads(sys.argv[1]))
    distributed.destroy_process_group()
