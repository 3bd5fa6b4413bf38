"""A folder of photographs as a dataset, without packing it.

Decoded at their full size in every epoch, they cost several times the processor time of a packed
dataset. Mean and colours are those of some of them, and what a decoder cannot take is found while
training: packing is the better way, this the shorter one.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet import atomic
from alexnet.pixels import ImageError, to_square
from pipeline.dataset import Dataset
from pipeline.manifest import INDEX, DatasetError, Manifest, ShardFile, SplitManifest
from pipeline.progress import ProgressBar
from pipeline.sources import Source
from pipeline.sources.class_names import check_names
from pipeline.split import FILES
from pipeline.statistics import Sums

STATISTICS_SAMPLES = 5000
"""Training photographs, the first in hashed order, that mean and colours are taken from."""


def index_photographs(source: Source, directory: Path, size: int) -> Dataset:
    """Write a dataset into `directory` that lists the files of `source`, to be scaled to `size`.

    What is there already is kept: a run goes on with the list it began with.
    """
    if (directory / "manifest.json").exists():
        return Dataset(directory)
    check_names(source.classes)
    splits = {}
    for split, samples in source.splits.items():
        (directory / split).mkdir(parents=True, exist_ok=True)
        paths = [Path(sample.location).absolute() for sample in samples]
        rows = [(0, p.stat().st_size, 0, s.label) for p, s in zip(paths, samples, strict=True)]
        index = np.array(rows, INDEX)
        files = json.dumps(list(map(str, paths))).encode()
        atomic.write(directory / split / FILES, files)
        digest = hashlib.sha256(files).hexdigest()
        splits[split] = SplitManifest(
            samples=len(rows),
            shards=(ShardFile(file=FILES, samples=len(rows), size=len(files), sha256=digest),),
            index_sha256=atomic.write_array(directory / split / "index.npy", index),
        )
    sums = _sums(source, size)
    manifest = Manifest(
        original=True,
        size=size,
        filter="cubic",
        jpeg_quality=None,
        classes=source.classes,
        source=_stamps(source),
        train=splits["train"],
        val=splits["val"],
        colour=sums.colour(),
        mean_sha256=atomic.write_array(directory / "mean.npy", sums.mean_image()),
    )
    atomic.write(directory / "manifest.json", manifest.model_dump_json(indent=2).encode())
    return Dataset(directory)


def _sums(source: Source, size: int) -> Sums:
    samples, sums = source.splits["train"][:STATISTICS_SAMPLES], Sums.zero(size)

    def opened(location: str) -> Image.Image | None:
        try:
            return to_square(source.reader.read(location), size)
        except (ImageError, OSError):
            return None  # the decoder of the batches will have its own opinion

    with ThreadPoolExecutor() as pool, ProgressBar("mean", len(samples), "images") as progress:
        for image in pool.map(opened, (sample.location for sample in samples)):
            if image is not None:
                sums.add(image)
            progress.advance(1)
    if not sums.images:
        raise DatasetError(
            f"{samples[0].location} and {len(samples) - 1:,} more: no image can be decoded"
        )
    return sums


def _stamps(source: Source) -> str:
    digest = hashlib.sha256()
    for samples in source.splits.values():
        for sample in samples:
            words = f"{sample.key}\0{sample.label}\0{source.reader.stamp(sample.location)}\0"
            digest.update(words.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
