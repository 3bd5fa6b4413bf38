"""Batches of a GPU beside those of a CPU: the same samples, nearly the same pixels."""

import shutil
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from pipeline.batches import Batch, Decoding, train_batches, whole_batches
from pipeline.dataset import Dataset
from pipeline.graph import Output
from pipeline.order import Shard
from pipeline.pack import pack
from pipeline.sources import open_source
from pipeline.sources.builtin import builtin_source
from pipeline.sources.source import MAX_QUARANTINED, VAL_FRACTION
from tests.gpu.check import Finding, Setup

MEAN, LARGEST, ODD = 0.5, 16.0, 0.001
"""Grey levels: the mean difference, the largest, and the share of values that differ by more than
four. Decoders of JPEG differ in their rounding, and in how they enlarge the colours."""
THREADS = 8
CPU = Shard(0, 1, None)


IMAGES = 400
"""Drawn ones, where no photographs are given: an epoch of thirty small steps."""


def packed(setup: Setup) -> Iterator[Finding]:
    """The dataset of all other checks."""
    if setup.photographs:
        source = open_source(str(setup.photographs), VAL_FRACTION, None)
    else:
        source = builtin_source(IMAGES)
    made = pack(source, setup.dataset, setup.size, MAX_QUARANTINED)
    yield Finding("images", made.train.samples + made.val.samples)


def whole_images(setup: Setup) -> Iterator[Finding]:
    """Validation images, by each share of the decoding that the JPEG engines do, and by the CPU."""
    data, there = Dataset(setup.dataset), Shard(0, 1, setup.device_id)
    batch = min(64, len(data.val))
    for load in (None, 0.0, 0.65, 1.0):
        how = Decoding(THREADS, hw_load=load)
        ours, theirs = (next(whole_batches(data, "val", s, how, batch=batch)) for s in (there, CPU))
        case = "by the CPU" if load is None else f"engines' share {load:g}"
        yield from _differences(case, ours, theirs)


def train_images(setup: Setup) -> Iterator[Finding]:
    """Crops with mirrors, colour and mean, in each type of number."""
    data, there = Dataset(setup.dataset), Shard(0, 1, setup.device_id)
    crop, batch = _crop(data), min(64, len(data.train))
    cases: list[tuple[Output, float | None]] = [
        ("float32", 0.65), ("float16", 0.65), ("uint8", 0.65), ("float16", None),
    ]  # fmt: skip
    for output, load in cases:
        ours, theirs = (
            next(
                train_batches(
                    data, shard, Decoding(THREADS, hw_load=load), seed=1, epoch=2, start=0,
                    batch=batch, crop=crop, output=output,
                )
            )
            for shard in (there, CPU)
        )  # fmt: skip
        case = output if load is not None else f"{output}, decoded by the CPU"
        yield from _differences(case, ours, theirs)


def whole_epoch(setup: Setup) -> Iterator[Finding]:
    """Two shards: every sample comes once."""
    data, seen = Dataset(setup.dataset), []
    for index in range(2):
        shard = Shard(index, 2, setup.device_id)
        for part in _epoch(data, shard, batch=100):
            seen += part.sample_N[part.real_N].tolist()
    yield Finding("samples that came not once", abs(len(seen) - len(data.train)), 0)
    yield Finding("samples that came twice", len(seen) - len(set(seen)), 0)


def held_batches(setup: Setup) -> Iterator[Finding]:
    """A batch keeps its pixels while later ones are decoded and the GPU lags behind."""
    data, shard, count = Dataset(setup.dataset), Shard(0, 1, setup.device_id), 8
    batch = min(100, len(data.train) // count)
    held, sums = [], []
    for part in islice(_epoch(data, shard, batch), count):
        if setup.gpu:
            torch.cuda._sleep(200_000_000)  # about a tenth of a second
        sums.append(part.image_NCHW.double().sum())
        held.append(part.image_NCHW)
    again = [image_NCHW.double().sum() for image_NCHW in held]
    fresh = [p.image_NCHW.double().sum() for p in islice(_epoch(data, shard, batch), count)]
    for case, other in (("held", again), ("decoded again", fresh)):
        changed = sum(a.item() != b.item() for a, b in zip(sums, other, strict=True))
        yield Finding(f"batches that differ, {case}", changed, 0)


def damaged_files(setup: Setup) -> Iterator[Finding]:
    """The same files are found to be damaged, and the process lives; files whose header is whole
    and the rest is not are decoded by some decoders."""
    folder = setup.folder / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(setup.dataset, folder)
    data = Dataset(folder)
    rows, shards = np.load(folder / "val/index.npy"), data.manifest.val.shards
    certain = {3: "zeros", 17: "header", len(rows) - 2: "noise"}
    for sample, kind in (certain | {len(rows) // 2: "cut"}).items():
        shard, size, offset, _ = rows[sample].tolist()
        with (folder / "val" / shards[shard].file).open("r+b") as file:
            file.seek(offset)
            whole = file.read(size)
            file.seek(offset)
            file.write(_damaged(whole, kind))
    ways: dict[str, tuple[int | None, float | None]] = {
        "CPU": (None, None),
        "CPU for GPU": (setup.device_id, None),
    }
    ways |= {f"engines' share {load:g}": (setup.device_id, load) for load in (0.0, 0.65, 1.0)}
    for way, (device_id, load) in ways.items():
        batches = whole_batches(
            data, "val", Shard(0, 1, device_id), Decoding(4, "replace", load), batch=32
        )
        samples = [s for part in batches for s in part.sample_N[part.real_N].tolist()]
        missing = set(range(len(rows))) - set(samples)
        yield Finding(f"{way}: came twice", len(samples) - len(set(samples)), 0)
        yield Finding(f"{way}: damaged, but decoded", len(set(certain) - missing), 0)
        yield Finding(f"{way}: whole, but left out", len(missing - {*certain, len(rows) // 2}), 0)
        yield Finding(f"{way}: the cut one is left out", len(rows) // 2 in missing)


def _damaged(whole: bytes, kind: str) -> bytes:
    half = len(whole) // 2
    return {
        "zeros": bytes(len(whole)),
        "header": whole[:20] + bytes(200) + whole[220:],
        "noise": np.random.default_rng(0).bytes(len(whole)),
        "cut": whole[:half] + bytes(len(whole) - half),
    }[kind]


def _crop(data: Dataset) -> int:
    return data.manifest.size * 7 // 8


def _epoch(data: Dataset, shard: Shard, batch: int) -> Iterator[Batch]:
    return train_batches(
        data, shard, Decoding(THREADS), seed=1, epoch=0, start=0, batch=batch, crop=_crop(data)
    )


def _differences(case: str, ours: Batch, theirs: Batch) -> Iterator[Finding]:
    difference = (ours.image_NCHW.cpu().float() - theirs.image_NCHW.float()).abs()
    yield Finding(f"{case}: mean", difference.mean().item(), MEAN, "levels")
    yield Finding(f"{case}: largest", difference.max().item(), LARGEST, "levels")
    yield Finding(f"{case}: beyond 4", (difference > 4).float().mean().item(), ODD)
    for field in ("label_N", "real_N", "sample_N"):
        one, other = getattr(ours, field), getattr(theirs, field)
        yield Finding(f"{case}: {field} differ", int((one.cpu() != other).sum()), 0)
    kinds = [
        (b.image_NCHW.dtype, b.image_NCHW.shape, b.image_NCHW.stride()) for b in (ours, theirs)
    ]
    yield Finding(f"{case}: type, shape or layout differ", float(kinds[0] != kinds[1]), 0)
