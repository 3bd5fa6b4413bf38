"""A folder of photographs as a dataset, without packing it.

Decoded at their full size in every epoch, they cost several times the processor time of a packed
dataset. Mean and colours are those of some of them. Only the first bytes of each are looked at
before training, so damage is found in its course: packing is the better way, this the shorter one.
"""

import hashlib
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from alexnet import atomic, tiff
from alexnet.bounds import excess, too_long
from alexnet.formats import HEAD_BYTES, recognise
from alexnet.pixels import MAX_PIXELS, ImageError, to_square
from pipeline.dataset import Dataset
from pipeline.decoder import Decoder
from pipeline.manifest import INDEX, DatasetError, Manifest, ShardFile, SplitManifest
from pipeline.progress import ProgressBar
from pipeline.sources import Source
from pipeline.sources.source import regular_status
from pipeline.split import FILES, Damage, PhotographSplit
from pipeline.statistics import Sums

STATISTICS_SAMPLES = 5000
"""Training photographs, the first in hashed order, that mean and colours are taken from."""
CHANNELS = 3
CONTAINER_MEMORY = Path("/sys/fs/cgroup/memory.max")

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "JPEG2000", "PPM")
"""Those that DALI reads."""


def index_photographs(
    source: Source, directory: Path, size: int, damage: Damage = "error", batch: int = 1
) -> Dataset:
    """Write a dataset into `directory` that lists the files of `source`, to be scaled to `size`.

    What is there already is kept: a run goes on with the list it began with. Raises DatasetError
    where files cannot be read or, unless damage is to be replaced, are empty or of no format that
    training reads; where they are read in place as something else; and where `batch` of them, at
    full size, take more memory than there is.
    """
    if (directory / "manifest.json").exists():
        return Dataset(directory)
    _check(source, damage, batch)
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


def _check(source: Source, damage: Damage, batch: int) -> None:
    """Look at the beginning of every file, and of images in more than 8 bits at all of it.

    Raises DatasetError that names the first bad one.
    """
    files = [sample.location for samples in source.splits.values() for sample in samples]
    pixels: list[int] = []

    def fault(file: str) -> str:
        try:
            status = regular_status(Path(file))
            with Path(file).open("rb") as opened:
                beginning = opened.read(HEAD_BYTES)
                too_much = too_long(status.st_size) or (_excess(opened) if beginning else "")
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        if too_much:
            return f"cannot be used: {too_much}"
        if (name := recognise(beginning)) in FORMATS:
            return _fault_of_image(Path(file), name, damage, pixels)
        if damage == "replace":
            return ""
        if not status.st_size:
            return "is empty, so it cannot be decoded"
        return f"is of none of the formats that are read in place ({', '.join(FORMATS)})"

    with (
        warnings.catch_warnings(action="ignore"),  # Pillow's, of all that may be odd in a file
        ThreadPoolExecutor() as pool,
        ProgressBar("check", len(files), "files") as progress,
    ):
        faults = []
        for file, text in zip(files, pool.map(fault, files), strict=True):
            if text:
                faults.append((file, text))
            progress.advance(1)
    if faults:
        file, text = min(faults)
        more = f" (and {len(faults) - 1:,} more of {len(files):,} files)" if faults[1:] else ""
        raise DatasetError(f"{file} {text}{more}; {PhotographSplit.remedy}")
    if pixels and (needed := CHANNELS * batch * sum(pixels) / len(pixels)) > (there := _memory()):
        raise DatasetError(
            f"a batch of {batch:,} photographs takes {needed / 1e9:,.0f} GB of memory in place, at "
            f"their full size of {sum(pixels) // len(pixels):,} pixels on average, but there are "
            f"{there / 1e9:,.0f} GB; pack the folder, or choose a smaller --batch"
        )


def _memory() -> int:
    """Bytes of memory of this machine, or of its container."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no such limit
        there = min(there, int(CONTAINER_MEMORY.read_text()))
    return there


def _fault_of_image(file: Path, name: str, damage: Damage, pixels: list[int]) -> str:
    """Why DALI would not read the image, or would read something else; empty where it does.

    What is damaged is left to be found when training meets it. Adds its pixels to `pixels`.
    """
    try:
        with Image.open(file, formats=[name]) as image:
            area = image.width * image.height
            if area > MAX_PIXELS:
                return f"has {area:,} pixels, more than the {MAX_PIXELS:,} that are read in place"
            pixels.append(area)
            if name != "TIFF":
                return ""
            if fault := tiff.misread(image):
                return f"cannot be used: {fault}"
            mode, tags = image.mode, getattr(image, "tag_v2", {})
        deep = mode.startswith(("I", "F"))
        if mode in ("1", "I", "LAB") or (deep and tags.get(tiff.Tag.WHITE) == 0):
            return "is of a kind of TIFF that is not read in place"
        if mode == "F":
            to_square(file.read_bytes(), 1)
    except UnidentifiedImageError:
        if name == "TIFF" and damage == "error":
            return "is cut short, or of a kind of TIFF that is not read"
        return ""
    except ImageError as error:
        return f"cannot be used: {error}" if error.kind == "unsupported" else ""
    except Exception:  # decoders of hostile files raise almost anything
        return ""
    return ""


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
