"""Photographs -> dataset: one Ray task a shard, the same bytes whatever the number of tasks."""

import hashlib
import io
import json
import os
import tarfile
from collections import Counter
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet.pixels import FILTER, PictureError, whole_picture
from pipeline.cluster import cluster
from pipeline.dataset import INDEX, DatasetError, Manifest, ShardFile, SplitManifest
from pipeline.progress import Progress
from pipeline.sources import Sample, Source
from pipeline.sources.source import Reader
from pipeline.statistics import Sums

SHARD_SAMPLES = 1000
JPEG_QUALITY = 90


@dataclass
class PackedShard:
    """What one task made of its samples."""

    file: ShardFile
    index: np.ndarray
    """INDEX rows."""
    sums: Sums
    source: bytes
    """SHA-256 over key, label and bytes of every sample, the refused ones too."""
    refused: list[dict[str, str]]


def pack(source: Source, directory: Path, size: int, max_quarantined: float) -> Manifest:
    """Write `source` as a dataset of size x size pictures into `directory`.

    The manifest is written last: interrupted and run again, it ends with the same bytes. Raises
    DatasetError if the directory holds a dataset already, or if more than the share
    `max_quarantined` of all files cannot be used.
    """
    if (directory / "manifest.json").exists():
        raise DatasetError(f"{directory} holds a dataset already; remove it or name another")
    directory.mkdir(parents=True, exist_ok=True)
    parts = [
        (split, number, samples[number * SHARD_SAMPLES : (number + 1) * SHARD_SAMPLES])
        for split, samples in source.splits.items()
        for number in range(ceil(len(samples) / SHARD_SAMPLES))
    ]
    for split in source.splits:
        (directory / split).mkdir(exist_ok=True)
    total = sum(map(len, source.splits.values()))
    with cluster() as ray, Progress("pack", total, "pictures") as progress:
        pack_one = ray.remote(num_cpus=1)(pack_shard)
        part_of = {
            pack_one.remote(source.reader, part, directory.absolute() / split, number, size): part
            for split, number, part in parts
        }
        waiting = list(part_of)
        while waiting:
            done, waiting = ray.wait(waiting)
            ray.get(done)  # a task that failed raises here, before the others are waited for
            progress.advance(sum(len(part_of[task]) for task in done))
        packed: list[PackedShard] = ray.get(list(part_of))

    refused = [row for shard in packed for row in shard.refused]
    _write(directory / "quarantine.jsonl", "".join(json.dumps(r) + "\n" for r in refused).encode())
    _judge(refused, total, directory, max_quarantined)

    sums, digest = Sums.zero(size), hashlib.sha256()
    splits = {}
    for split in source.splits:
        shards = [shard for (name, *_), shard in zip(parts, packed, strict=True) if name == split]
        index = np.concatenate([shard.index for shard in shards])
        _write(directory / split / "index.npy", _npy(index))
        splits[split] = SplitManifest(
            samples=len(index), shards=tuple(shard.file for shard in shards)
        )
        for shard in shards:
            digest.update(shard.source)
            if split == "train":
                sums.merge(shard.sums)
    mean = _npy(sums.mean_picture())
    _write(directory / "mean.npy", mean)
    manifest = Manifest(
        size=size,
        filter=FILTER.name.lower(),
        jpeg_quality=JPEG_QUALITY,
        classes=source.classes,
        source=digest.hexdigest(),
        train=splits["train"],
        val=splits["val"],
        colour=sums.colour(),
        mean_sha256=hashlib.sha256(mean).hexdigest(),
        quarantined=len(refused),
    )
    _write(directory / "manifest.json", manifest.model_dump_json(indent=2).encode())
    return manifest


def pack_shard(
    reader: Reader, samples: list[Sample], directory: Path, number: int, size: int
) -> PackedShard:
    """Write tar `number` of a split. What cannot be read or decoded is left out and listed."""
    digest, sums, rows = hashlib.sha256(), Sums.zero(size), []
    refused: list[dict[str, str]] = []
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for sample in samples:
            digest.update(f"{sample.key}\0{sample.label}\0".encode("utf-8", "surrogateescape"))
            try:
                data = reader.read(sample.location)
                digest.update(hashlib.sha256(data).digest())
                jpeg = encode(whole_picture(data, size))
            except (PictureError, OSError) as error:
                kind = error.kind if isinstance(error, PictureError) else "unreadable"
                refused.append({"file": sample.location, "kind": kind, "reason": str(error)})
                continue
            offset = _add(tar, f"{sample.key}.jpg", jpeg)
            _add(tar, f"{sample.key}.cls", str(sample.label).encode())
            rows.append((number, len(jpeg), offset, sample.label))
            # Of what is in the shard, not of what was encoded: it can be computed again from it.
            sums.add(np.asarray(Image.open(io.BytesIO(jpeg))))
    content = shard.getvalue()
    name = f"{number:05d}.tar"
    _write(directory / name, content)
    file = ShardFile(file=name, samples=len(rows), sha256=hashlib.sha256(content).hexdigest())
    return PackedShard(file, np.array(rows, INDEX), sums, digest.digest(), refused)


def encode(picture_SS3: np.ndarray) -> bytes:
    """JPEG with chroma at half resolution (4:2:0): a third faster to decode than 4:4:4."""
    file = io.BytesIO()
    Image.fromarray(picture_SS3).save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0")
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Append one file, with nothing in its header but name and size; returns where it starts."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))
    padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    return tar.offset - padded


def _judge(
    refused: list[dict[str, str]], total: int, directory: Path, max_quarantined: float
) -> None:
    if len(refused) > max_quarantined * total:
        kinds = Counter(row["kind"] for row in refused).most_common()
        raise DatasetError(
            f"{len(refused)} of {total} files cannot be used "
            f"({', '.join(f'{count} {kind}' for kind, count in kinds)}), more than the share "
            f"{max_quarantined:g} that --max-quarantined allows; "
            f"{directory / 'quarantine.jsonl'} says which and why"
        )


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: under a temporary name, synced, renamed."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
