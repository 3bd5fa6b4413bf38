"""A folder of photographs as a dataset, without packing it.

Decoded at their full size in every epoch, they cost several times the processor time of a packed
dataset. Mean and colours are those of some of them. Only the first bytes of each are looked at
before training, so damage is found in its course: packing is the better way, this the shorter one.
"""

import hashlib
import json
import re
from concurrent.futures import ThreadPoolExecutor
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from alexnet import atomic
from alexnet.bounds import excess, too_long
from alexnet.pixels import ImageError
from pipeline.dataset import Dataset
from pipeline.decoder import Decoder
from pipeline.manifest import INDEX, DatasetError, Manifest, ShardFile, SplitManifest
from pipeline.progress import ProgressBar
from pipeline.sources import Source
from pipeline.sources.class_names import check_names
from pipeline.sources.source import regular_status
from pipeline.split import FILES, Damage, PhotographSplit
from pipeline.statistics import Sums

STATISTICS_SAMPLES = 5000
"""Training photographs, the first in hashed order, that mean and colours are taken from."""


READABLE = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|BM|II[*+]\0|MM\0[*+]|RIFF....WEBP|P[1-6]\s"
    rb"|\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    re.DOTALL,
)
"""How files of the formats begin that DALI reads: JPEG, PNG, BMP, TIFF, WebP, PNM, JPEG 2000."""
FORMATS = "JPEG, PNG, BMP, TIFF, WebP, PNM and JPEG 2000"
LONGEST_BEGINNING = 12
"""Bytes."""


def index_photographs(
    source: Source, directory: Path, size: int, damage: Damage = "error"
) -> Dataset:
    """Write a dataset into `directory` that lists the files of `source`, to be scaled to `size`.

    What is there already is kept: a run goes on with the list it began with. Raises DatasetError
    where files cannot be read or, unless damage is to be replaced, are empty or of no format that
    training reads.
    """
    if (directory / "manifest.json").exists():
        return Dataset(directory)
    check_names(source.classes)
    _check(source, damage)
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


def _check(source: Source, damage: Damage) -> None:
    """Look at the beginning of every file; raises DatasetError that names the first bad one."""
    files = [sample.location for samples in source.splits.values() for sample in samples]

    def fault(file: str) -> str:
        try:
            status = regular_status(Path(file))
            with Path(file).open("rb") as opened:
                beginning = opened.read(LONGEST_BEGINNING)
                too_much = too_long(status.st_size) or (_excess(opened) if beginning else "")
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if too_much:
            return f"cannot be used: {too_much}"
        if damage == "replace":
            return ""
        if not status.st_size:
            return "is empty, so it cannot be decoded"
        if not READABLE.match(beginning):
            return f"is of none of the formats that are read in place ({FORMATS})"
        return ""

    with ThreadPoolExecutor() as pool, ProgressBar("check", len(files), "files") as progress:
        faults = []
        for file, text in zip(files, pool.map(fault, files), strict=True):
            if text:
                faults.append((file, text))
            progress.advance(1)
    if faults:
        file, text = min(faults)
        more = f" (and {len(faults) - 1:,} more of {len(files):,} files)" if faults[1:] else ""
        raise DatasetError(f"{file} {text}{more}; {PhotographSplit.remedy}")


def _excess(file: BinaryIO) -> str:
    with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
        return excess(mapped)


def _sums(source: Source, size: int) -> Sums:
    samples, sums = source.splits["train"][:STATISTICS_SAMPLES], Sums.zero(size)

    def opened(location: str) -> Image.Image | None:
        try:
            return decode(source.reader.read(location), size)
        except (ImageError, OSError):
            return None  # the decoder of the batches will have its own opinion

    with (
        Decoder() as decode,
        ThreadPoolExecutor() as pool,
        ProgressBar("mean", len(samples), "images") as progress,
    ):
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
