"""python -m tests.benchmarks.loader: the loader and the packer beside what others would write."""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from typer import Argument

from alexnet.command import UserError
from alexnet.console import Options
from pipeline.batches import Decoding, whole_batches
from pipeline.cluster import MEMORY
from pipeline.dataset import Dataset
from pipeline.shard import ShardPlan
from pipeline.sources import open_source
from pipeline.sources.source import VAL_FRACTION
from tests.benchmarks.contender import Contender, compete
from tests.benchmarks.harness import Device, Goal, Measurements, Spread, report, run
from tests.benchmarks.loader import contenders
from tests.benchmarks.loader.contenders import ALONE, Task, decoded, file_name, write_files
from trainer.report import save

WARM_UP_BATCHES = 4
"""Batches a thread: more than any contender prefetches; a DataLoader two a worker, DALI two."""
PACKED_SAMPLES = 250
"""In one call: a quarter of a shard, so that a measurement is not much longer than asked for."""

TORCHVISION = "torchvision on the GPU, uint8"
LOADERS: dict[str, tuple[Any, ...]] = {
    "ours, float32": (contenders.ours, "float32"),
    "ours, uint8": (contenders.ours, "uint8"),
    "DataLoader and Pillow, float32": (contenders.data_loader, "float32"),
    "DataLoader and Pillow, uint8": (contenders.data_loader, "uint8"),
    "DALI from files, float32": (contenders.dali, "float32"),
    "DALI from files, uint8": (contenders.dali, "uint8"),
    "simplejpeg, decoding only": (contenders.simplejpeg_alone,),
    TORCHVISION: (contenders.torchvision_cuda,),
}
"""{name: (generator function, what it is called with after the task)}."""

GOALS = (
    Goal("ours, float32", "DataLoader and Pillow, float32", 3.5),
    Goal("ours, uint8", "DataLoader and Pillow, uint8", 2.0),
    Goal("ours, uint8", "simplejpeg, decoding only", 0.75),
    Goal("ours, float32", "DALI from files, float32", 1.15),
    Goal("ours, uint8", "DALI from files, uint8", 1.15),
    Goal("ours, packing", "Pillow loop, packing", 0.8),
)
GPU_GOALS = (
    *(Goal(goal.first, goal.second, None, "per_s", "per second") for goal in GOALS),
    Goal("ours, uint8", TORCHVISION, None, "per_s", "per second"),
)
"""The processor's time says nothing of a GPU's."""


class Loader(Options):
    """Measure the loader and the packer beside what others would write.

    Every contender works alone, in its own process, on the same images; once a round, in an order
    that rotates.
    """

    dataset: Annotated[Path, Argument()]
    """A packed dataset, of 256 x 256 for the other defaults."""
    source: Path | None = None
    """Photographs in class folders: packing is measured as well."""
    packing_only: bool = False
    """With --source: leave the loaders out."""
    rounds: int = Field(5, ge=1)
    """Measurements of each contender."""
    seconds: float = Field(3.0, gt=0)
    """Least length of a measurement."""
    threads: int = Field(2, ge=1)
    """Threads or worker processes of each contender."""
    batch: int = Field(128, ge=1)
    """Images of a batch."""
    crop: int = Field(224, ge=1)
    """Rows and columns of an image."""
    device: Device = "cpu"
    """Where batches are delivered; on cuda DALI decodes there, as does torchvision beside it."""
    picture: Path | None = None
    """Draw the rates to this path, .png and .svg."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("loader", Loader, bench, arguments, "bench/dataset256 --rounds 7")


def bench(options: Loader) -> int:
    dataset = Dataset(options.dataset)
    if dataset.manifest.original:
        raise UserError(f"{options.dataset}: the photographs are not packed; pack the source")
    if options.crop > dataset.manifest.size:
        raise UserError(f"--crop is {options.crop}, but images have {dataset.manifest.size} pixels")
    if options.packing_only and not options.source:
        raise UserError("--packing-only needs --source FOLDER, a folder of photographs")
    # As Ray does for tasks of one core: the threads that a contender is given are all it has.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="bench.") as temporary, ExitStack() as stack:
        files = Path(temporary) / "train"
        write_files(dataset, files)
        task = Task(
            options.dataset, files, options.batch, options.crop, options.threads, options.device
        )
        taking_part = [] if options.packing_only else list(_loaders(task))
        if options.source:
            taking_part += _packers(options.source, Path(temporary), dataset.manifest.size)
        for contender in taking_part:
            stack.enter_context(contender)
        _check_parity(taking_part, dataset, task)
        measurements = compete(taking_part, options.rounds, options.seconds)
    if options.picture:
        print(*_draw(measurements, options.picture), sep="\n")
    report("images", measurements, GPU_GOALS if options.device == "cuda" else GOALS, options)
    return 0


def _loaders(task: Task) -> Iterator[Contender]:
    """Ours as every task and worker of a cluster has it, others as their users do."""
    for name, (deliver, *words) in LOADERS.items():
        if name == TORCHVISION and task.device == "cpu":
            continue
        environment = MEMORY if name.startswith("ours") else {}
        warm_up = WARM_UP_BATCHES * task.threads
        yield Contender(name, warm_up, deliver, task, *words, environment=environment)


def _packers(folder: Path, temporary: Path, size: int) -> Iterator[Contender]:
    """Nothing is prefetched here: the warm-up brings the files into memory."""
    source = open_source(str(folder), VAL_FRACTION, class_names=None)
    plan = ShardPlan("train", 0, source.splits["train"][:PACKED_SAMPLES], size)
    files = [Path(sample.location) for sample in plan.samples]
    ours = (contenders.our_packing, source.reader, plan, temporary)
    yield Contender("ours, packing", 1, *ours, environment=MEMORY)
    pillow = (contenders.pillow_packing, files, size)
    yield Contender("Pillow loop, packing", 1, *pillow, environment={})


def _check_parity(taking_part: list[Contender], dataset: Dataset, task: Task) -> None:
    """Raises UserError unless ours and the peers deliver the same kind of image."""
    kinds = {contender.name: contender.kind for contender in taking_part}
    for ours, peer, *_ in GOALS:
        if kinds.get(ours) != kinds.get(peer):
            raise UserError(f"{ours} delivers {kinds[ours]}, but {peer} {kinds[peer]}")
    first = next(whole_batches(dataset, "train", ALONE, Decoding(threads=1), batch=1))
    path = next(task.files.glob(f"*/{file_name(0)}"))
    if (first.image_NCHW[0].permute(1, 2, 0).numpy() != np.asarray(decoded(path))).any():
        raise UserError(f"{path.name}: our decoder and Pillow give different pixels")


def _draw(measurements: Measurements, image: Path) -> list[Path]:
    """A bar a contender -> `image`.png and .svg."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.6 + 0.4 * len(measurements)), layout="constrained")
    axes = figure.subplots()
    spreads = [
        Spread.of(measurement.per_core_s for measurement in own) for own in measurements.values()
    ]
    bars = axes.barh(
        list(measurements),
        [spread.median for spread in spreads],
        xerr=[
            [spread.median - spread.low for spread in spreads],
            [spread.high - spread.median for spread in spreads],
        ],
        color=["C0" if name.startswith("ours") else "0.75" for name in measurements],
        error_kw={"lw": 0.9, "ecolor": "0.4"},
    )
    axes.bar_label(bars, fmt="{:,.0f}", padding=4)
    axes.invert_yaxis()
    axes.set(xlabel="images per core-second; median, lowest and highest round")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.25)
    axes.set_axisbelow(True)
    return save(figure, image)


if __name__ == "__main__":
    sys.exit(main())
