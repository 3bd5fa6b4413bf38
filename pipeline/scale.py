"""python -m pipeline.scale: what an epoch costs to start on datasets of any size, on made-up ones.

Every sample of a made-up index is the same picture; the index itself is as long as a real one.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from alexnet import atomic
from alexnet.classes import ClassLabel
from alexnet.command import Parser, run
from alexnet.pixels import whole_picture
from pipeline.dataset import Dataset
from pipeline.manifest import INDEX, Colour, Manifest, ShardFile, SplitManifest
from pipeline.order import Shard
from pipeline.shard import encode
from pipeline.sources.builtin import draw

SIZES = (1_281_167, 15_000_000)
"""ImageNet of ILSVRC-2012, and all of ImageNet in autumn 2011 (§7)."""


def main(arguments: list[str] | None = None) -> int:
    parser = Parser(prog="python -m pipeline.scale", description=__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=SIZES, help="(%(default)s)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(run=_measure_all)
    return run(parser, arguments)


def _measure_all(options: argparse.Namespace) -> int:
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return 0
    results = []
    for samples in options.samples:
        with tempfile.TemporaryDirectory() as directory:
            make_up(Path(directory), samples)
            words = [sys.executable, "-m", "pipeline.scale", "--measure", directory]
            # A process of its own, so that its memory is its own.
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
            results.append({"samples": samples} | json.loads(done.stdout))
    head = "first batch from the start, middle, end"
    print(f"{'samples':>12}  {'open':>9}  {head:>40}  {'memory':>9}")
    for r in results:
        starts = "  ".join(f"{start_s:.2f} s" for start_s in r["start_s"])
        print(
            f"{r['samples']:>12,}  {1000 * r['open_s']:>6.1f} ms  {starts:>40}  "
            f"{r['memory_MB']:>6.0f} MB"
        )
    print(json.dumps(results))
    return 0


def measure(directory: Path) -> dict:
    """Seconds to open the dataset and to the first batch of an epoch at three positions, and what
    this process's own memory grew by, in MB."""
    # Imported here: what they take is not the dataset's.
    from pipeline.batches import Decoding, train_batches

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
    before = _own_memory()
    began = time.perf_counter()
    dataset = Dataset(directory)
    samples = len(dataset.train)
    open_s = time.perf_counter() - began
    positions = (0, samples // 2, samples - 128)
    start_s = [first_batch(dataset, epoch, position) for epoch, position in enumerate(positions)]
    return {"open_s": open_s, "start_s": start_s, "memory_MB": (_own_memory() - before) / 1e6}


def make_up(directory: Path, samples: int) -> None:
    """A dataset of one picture of 64 x 64, `samples` times in its index."""
    picture_SS3 = whole_picture(draw("0", seed=0), 64)
    jpeg = encode(Image.fromarray(picture_SS3))
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
        mean_sha256=atomic.write_array(directory / "mean.npy", picture_SS3.astype(np.float32)),
        **splits,
    )
    (directory / "manifest.json").write_text(manifest.model_dump_json())


def _own_memory() -> int:
    """Bytes that no file backs: the index is mapped, and its pages are the kernel's to drop."""
    memory = psutil.Process().memory_info()
    return memory.rss - memory.shared


if __name__ == "__main__":
    sys.exit(main())
