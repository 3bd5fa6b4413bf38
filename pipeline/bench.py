"""python -m pipeline.bench: the loader and the packer beside what others would write.

Every contender works alone, in its own process, on the same pictures; once a round, in an order
that rotates. What counts is images per second of CPU time over all its processes, and the ratio of
two contenders within a round: other work on the machine moves both alike. Needs the extra `bench`.
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
from itertools import count
from pathlib import Path

import numpy as np
from torch import Tensor

from alexnet.benchmark import machine
from alexnet.command import Parser, UserError, run
from pipeline import peers
from pipeline.batches import Decoding, train_batches, whole_batches
from pipeline.cluster import MEMORY
from pipeline.contender import Contender, Delivery, compete
from pipeline.dataset import Dataset
from pipeline.graph import Output
from pipeline.order import Shard
from pipeline.peers import Task
from pipeline.scores import Goal, Scores, Windows
from pipeline.shard import RECORDS, Job, pack_shard
from pipeline.sources import open_source
from pipeline.sources.source import VAL_FRACTION, Reader

ALONE = Shard(index=0, count=1, device_id=None)
WARM_UP_BATCHES = 4
"""For each thread: more than any contender prefetches; a DataLoader two a worker, DALI two."""
PACKED_SAMPLES = 250
"""In one call: a quarter of a shard, so that a window is not much longer than asked for."""
PACKAGES = ("torch", "nvidia-dali-cuda130", "pillow", "simplejpeg", "numpy", "psutil")

GOALS = (
    Goal("ours, float32", "DataLoader and Pillow, float32", 3.5),
    Goal("ours, uint8", "DataLoader and Pillow, uint8", 2.0),
    Goal("ours, uint8", "simplejpeg, decoding only", 0.75),
    Goal("ours, float32", "DALI from files, float32", 1.15),
    Goal("ours, uint8", "DALI from files, uint8", 1.15),
    Goal("ours, packing", "Pillow loop, packing", 0.8),
)


def main(arguments: list[str] | None = None) -> int:
    return run(_parser(), arguments)


def _bench(options: argparse.Namespace) -> int:
    dataset = Dataset(options.dataset)
    if dataset.manifest.original:
        raise UserError(f"{options.dataset}: the photographs are not packed; pack the source")
    if not 0 < options.crop <= dataset.manifest.size:
        raise UserError(f"--crop is {options.crop}, but images have {dataset.manifest.size} pixels")
    if min(options.rounds, options.batch, options.threads) < 1 or options.seconds <= 0:
        raise UserError("--rounds, --batch, --threads and --seconds must be above zero")
    if options.packing_only and not options.source:
        raise UserError("--packing-only needs --source FOLDER, a folder of photographs")
    # As Ray does for tasks of one core: the threads that a contender is given are all it has.
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="bench.") as temporary, ExitStack() as stack:
        files = Path(temporary) / "train"
        _write_files(dataset, files)
        task = Task(options.dataset, files, options.batch, options.crop, options.threads)
        contenders = [] if options.packing_only else _loaders(task)
        if options.source:
            contenders += _packers(options.source, Path(temporary), dataset.manifest.size)
        for contender in contenders:
            stack.enter_context(contender)
        _check_parity(contenders, dataset, task)
        windows = compete(contenders, options.rounds, options.seconds)
    _report(windows, options)
    return 0


def _loaders(task: Task) -> list[Contender]:
    deliver: dict[str, Callable[[Task], Iterator[Delivery]]] = {
        "ours, float32": ours_float32,
        "ours, uint8": ours_uint8,
        "DataLoader and Pillow, float32": peers.pillow_float32,
        "DataLoader and Pillow, uint8": peers.pillow_uint8,
        "DALI from files, float32": peers.dali_float32,
        "DALI from files, uint8": peers.dali_uint8,
        "simplejpeg, decoding only": peers.decoder,
    }
    warm_up = WARM_UP_BATCHES * task.threads
    return [
        Contender(name, warm_up, loader, task, environment=_environment(name))
        for name, loader in deliver.items()
    ]


def _packers(folder: Path, temporary: Path, size: int) -> list[Contender]:
    """Nothing is prefetched here: the warm-up brings the files into memory."""
    source = open_source(str(folder), VAL_FRACTION, class_names=None)
    job = Job("train", 0, source.splits["train"][:PACKED_SAMPLES], size)
    files = [Path(sample.location) for sample in job.samples]
    return [
        Contender(
            "ours, packing", 1, ours_packing, source.reader, job, temporary, environment=MEMORY
        ),
        Contender("Pillow loop, packing", 1, peers.packing, files, size, environment={}),
    ]


def _environment(name: str) -> dict[str, str]:
    """Ours as every task and worker of a cluster has it, others as their users do."""
    return MEMORY if name.startswith("ours") else {}


def ours_float32(task: Task) -> Iterator[Tensor]:
    """Mean picture subtracted, colour noise added."""
    return _ours(task, "float32")


def ours_uint8(task: Task) -> Iterator[Tensor]:
    return _ours(task, "uint8")


def _ours(task: Task, output: Output) -> Iterator[Tensor]:
    """Epoch after epoch, as in training; without the padding, which comes last in a batch."""
    dataset = Dataset(task.dataset)
    for epoch in count():
        for batch in train_batches(
            dataset,
            ALONE,
            Decoding(task.threads),
            seed=0,
            epoch=epoch,
            start=0,
            batch=task.batch,
            crop=task.crop,
            output=output,
        ):
            yield batch.image_NCHW[: int(batch.real_N.sum())]


def ours_packing(reader: Reader, job: Job, directory: Path) -> Iterator[np.ndarray]:
    """Bytes of each JPEG, (N,)."""
    while True:
        # A new one each time: a shard that is there already is not packed again.
        with tempfile.TemporaryDirectory(dir=directory) as fresh:
            for name in (job.split, RECORDS):
                (Path(fresh) / name).mkdir()
            shard, _ = pack_shard(reader, job, Path(fresh))
        yield shard.index["size"]


def _write_files(dataset: Dataset, folder: Path) -> None:
    """The training JPEGs as they are, one file each, in class folders."""
    for name in dataset.manifest.classes:
        (folder / name.id).mkdir(parents=True)
    for sample, label in enumerate(dataset.train.index["label"]):
        path = folder / dataset.manifest.classes[label].id / _file_name(sample)
        dataset.train.jpeg(sample).tofile(path)


def _file_name(sample: int) -> str:
    return f"{sample:08d}.jpg"


def _check_parity(contenders: list[Contender], dataset: Dataset, task: Task) -> None:
    """Raises UserError unless ours and the peers deliver the same kind of picture."""
    kinds = {contender.name: contender.kind for contender in contenders}
    for ours, peer, _ in GOALS:
        if kinds.get(ours) != kinds.get(peer):
            raise UserError(f"{ours} delivers {kinds[ours]}, but {peer} {kinds[peer]}")
    first = next(whole_batches(dataset, "train", ALONE, Decoding(threads=1), batch=1))
    path = next(task.files.glob(f"*/{_file_name(0)}"))
    if (first.image_NCHW[0].permute(1, 2, 0).numpy() != np.asarray(peers.decoded(path))).any():
        raise UserError(f"{path.name}: our decoder and Pillow give different pixels")


def _report(windows: Windows, options: argparse.Namespace) -> None:
    scores = Scores.of(windows, GOALS)
    print(f"\n{scores.table()}\n")
    if options.picture:
        print(*scores.draw(options.picture), sep="\n")
    everything = asdict(scores) | {
        "machine": machine(),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "options": {name: value for name, value in vars(options).items() if name != "run"},
    }
    print(json.dumps(everything, default=str))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m pipeline.bench", description=__doc__)
    parser.set_defaults(run=_bench)
    parser.add_argument("dataset", type=Path, help="a packed dataset; 256 x 256 for the defaults")
    parser.add_argument(
        "--source", type=Path, help="photographs in class folders: packing is measured as well"
    )
    parser.add_argument(
        "--packing-only", action="store_true", help="with --source: leave the loaders out"
    )
    parser.add_argument("--rounds", type=int, default=5, help="windows of each (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=3.0, help="at least, for each window (%(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="or worker processes, of each (%(default)s)"
    )
    parser.add_argument("--batch", type=int, default=128, help="pictures (%(default)s)")
    parser.add_argument("--crop", type=int, default=224, help="rows and columns (%(default)s)")
    parser.add_argument("--picture", type=Path, help="draw the rates to this path, .png and .svg")
    return parser


if __name__ == "__main__":
    sys.exit(main())
