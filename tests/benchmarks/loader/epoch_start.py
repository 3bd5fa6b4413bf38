"""python -m tests.benchmarks.loader.epoch_start: how long an epoch takes to start, by samples.

Every sample of a made-up index is the same image; the index itself is as long as a real one.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from PIL import Image
from typer import Argument

from alexnet import atomic
from alexnet.classes import ClassLabel
from alexnet.console import Options
from alexnet.pixels import whole_image
from pipeline.batches import Decoding, train_batches
from pipeline.dataset import Dataset
from pipeline.manifest import INDEX, Colour, Manifest, ShardFile, SplitManifest
from pipeline.order import Shard
from pipeline.shard import encode
from pipeline.sources.builtin import draw
from tests.benchmarks.harness import in_own_process, own_bytes, run, table

SIZES = (1_281_167, 15_000_000)
"""ImageNet of ILSVRC-2012, and all of ImageNet in autumn 2011 (§7)."""


class EpochStart(Options):
    """Measure how long the first batch of an epoch takes, on made-up datasets."""

    samples: Annotated[tuple[int, ...], Argument()] = SIZES
    """Samples of each dataset."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("loader.epoch_start", EpochStart, bench, arguments)


def bench(options: EpochStart) -> int:
    results = []
    for samples in options.samples:
        with tempfile.TemporaryDirectory() as directory:
            make_up(Path(directory), samples)
            # A process of its own, so that its memory is its own.
            results.append({"samples": samples} | in_own_process(measure, Path(directory)))
    rows = (
        (
            f"{r['samples']:,}", f"{1000 * r['open_s']:.1f} ms",
            ", ".join(f"{start_s:.2f} s" for start_s in r["start_s"]), f"{r['memory_MB']:.0f} MB",
        )
        for r in results
    )  # fmt: skip
    print(table(("samples", "open", "first batch: start, middle, end", "memory"), rows))
    print(json.dumps(results))
    return 0


def measure(directory: Path) -> dict:
    """Seconds to open the dataset and to the first batch of an epoch at three positions, and what
    this process's own memory grew by, in MB."""

    def first_batch(dataset: Dataset, epoch: int, position: int) -> float:
        began = time.perf_counter()
        next(
            train_batches(
                dataset, Shard(0, 1, None), Decoding(threads=1),
                seed=0, epoch=epoch, start=position, batch=128, crop=56,
            )
        )  # fmt: skip
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as small:
        make_up(Path(small), 1000)
        first_batch(Dataset(Path(small)), 0, 0)  # DALI and torch take theirs
    before = own_bytes("RssAnon")
    began = time.perf_counter()
    dataset = Dataset(directory)
    samples = len(dataset.train)
    open_s = time.perf_counter() - began
    positions = (0, samples // 2, samples - 128)
    start_s = [first_batch(dataset, epoch, position) for epoch, position in enumerate(positions)]
    memory_MB = (own_bytes("RssAnon") - before) / 1e6
    return {"open_s": open_s, "start_s": start_s, "memory_MB": memory_MB}


def make_up(directory: Path, samples: int) -> None:
    """A dataset of one image of 64 x 64, `samples` times in its index."""
    image_SS3 = whole_image(draw("0", seed=0), 64)
    jpeg = encode(Image.fromarray(image_SS3))
    index = np.zeros(samples, INDEX)
    index["size"] = len(jpeg)
    index["label"] = np.arange(samples) % 1000
    splits = {}
    for name, rows in (("train", index), ("val", index[:1])):
        (directory / name).mkdir()
        (directory / name / "00000.tar").write_bytes(jpeg)
        splits[name] = SplitManifest(
            samples=len(rows),
            shards=(ShardFile(file="00000.tar", samples=len(rows), size=len(jpeg), sha256=""),),
            index_sha256=atomic.write_array(directory / name / "index.npy", rows),
        )
    manifest = Manifest(
        size=64,
        filter="",
        jpeg_quality=None,
        classes=tuple(ClassLabel(id=str(n), name=str(n)) for n in range(1000)),
        source="",
        colour=Colour(mean=(0, 0, 0), eigenvalues=(1, 1, 1), eigenvectors=((1, 0, 0),) * 3),
        mean_sha256=atomic.write_array(directory / "mean.npy", image_SS3.astype(np.float32)),
        **splits,
    )
    (directory / "manifest.json").write_text(manifest.model_dump_json())


if __name__ == "__main__":
    sys.exit(main())
