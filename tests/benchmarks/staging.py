"""python -m tests.benchmarks.staging: an epoch from object storage beside one from local disk."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import psutil
from pydantic import Field
from typer import Argument, Option

from alexnet.command import UserError
from alexnet.console import Options
from alexnet.store.store import Store
from alexnet.store.url import Place, StoreURL
from pipeline.batches import Decoding, train_batches
from pipeline.cluster import MEMORY
from pipeline.dataset import Dataset
from pipeline.destination import MANIFEST
from pipeline.order import Shard
from tests.benchmarks.harness import (
    Goal,
    Measurement,
    Spread,
    cpu_s,
    in_own_process,
    measure,
    report,
    run,
    table,
)

DISK, COLD, WARM = "local disk", "object storage, first epoch", "object storage, second epoch"
GOALS = (
    Goal(WARM, DISK, 0.98, "per_s", "per second"),
    Goal(COLD, DISK, 0.8, "per_s", "per second"),
)


class Staging(Options):
    """Measure epochs of a dataset in object storage beside those of the same one on disk.

    Each is read by a new process with the disk's cache as it comes, in an order that rotates; the
    first from storage with an empty cache of its own.
    """

    dataset: Annotated[Path, Argument()]
    """A packed dataset."""
    url: Annotated[Place, Argument()]
    """Where it is in object storage, or is uploaded to if there is none."""
    rounds: int = Field(5, ge=1)
    """Epochs of each kind."""
    threads: int = Field(2, ge=1)
    """Threads that decode."""
    batch: int = Field(128, ge=1)
    """Images of a batch."""
    crop: int = Field(224, ge=1)
    """Rows and columns of an image."""
    images_per_s: Annotated[float, Option(metavar="X")] = Field(1e6, gt=0)
    """The most images that are taken in a second, as training does."""


class Epoch(NamedTuple):
    whole: Measurement
    first_s: float
    """From opening the dataset to the first batch."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("staging", Staging, bench, arguments, "bench/dataset256 s3://bucket/bench")


def bench(options: Staging) -> int:
    if not isinstance(options.url, StoreURL):
        raise UserError(f"{options.url}: this is no URL of object storage; give s3://BUCKET/PATH")
    # As every worker of a run has it.
    os.environ.update(MEMORY | {"OMP_NUM_THREADS": "1"})
    _upload(options.dataset, options.url)
    first: dict[str, list[float]] = {}

    def visit(number: int) -> Iterator[tuple[str, Measurement]]:
        with tempfile.TemporaryDirectory(prefix="bench.") as cache:
            os.environ["ALEXNET_CACHE"] = cache
            kinds = [(DISK, options.dataset), (COLD, options.url), (WARM, options.url)]
            turn = number % 2
            for name, where in kinds[turn:] + kinds[:turn]:
                if name == WARM:
                    in_own_process(complete, where)
                epoch = in_own_process(read, where, options)
                first.setdefault(name, []).append(epoch.first_s)
                yield name, epoch.whole

    found = measure(options.rounds, visit)
    rows = [(name, *Spread.of(own).cells(".2f")) for name, own in first.items()]
    text = table(("seconds to the first batch", "median", "lowest to highest round"), rows)
    report("images", found, GOALS, options, [text], first_s=first)
    return 0


def read(where: Place, options: Staging) -> Epoch:
    """One epoch."""
    here, alone, decoding = psutil.Process(), Shard(0, 1, None), Decoding(options.threads)
    before_s, start = cpu_s(here), time.perf_counter()
    dataset = Dataset(where)
    images, first_s = 0, 0.0
    for batch in train_batches(
        dataset, alone, decoding, seed=0, epoch=0, start=0,
        batch=options.batch, crop=options.crop,
    ):  # fmt: skip
        first_s = first_s or time.perf_counter() - start
        images += int(batch.real_N.sum())
        time.sleep(max(0.0, start + images / options.images_per_s - time.perf_counter()))
    whole = Measurement(images, time.perf_counter() - start, cpu_s(here) - before_s)
    return Epoch(whole, first_s)


def complete(where: Place) -> None:
    """Wait until all training shards are staged: the first epoch can be over before."""
    dataset = Dataset(where)
    paths = [dataset.folder / "train" / shard.file for shard in dataset.manifest.train.shards]
    while not all(path.exists() for path in paths):
        next(iter(dataset.train.read([np.arange(1)])))
        time.sleep(0.1)


def _upload(dataset: Path, url: StoreURL) -> None:
    store = Store(url)
    if store.size(MANIFEST) is None:
        for path in sorted(dataset.rglob("*"), key=lambda path: path.name == MANIFEST):
            if path.is_file():
                store.write(str(path.relative_to(dataset)), path)


if __name__ == "__main__":
    sys.exit(main())
