"""Is a packed dataset what its manifest says, down to every image?"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet.pixels import ImageError, to_square
from pipeline.dataset import Dataset
from pipeline.manifest import INDEX, DatasetError, ShardFile, SplitManifest
from pipeline.progress import ProgressBar

CHANGED = "the file has changed since it was packed: its SHA-256 is another"


def damages(dataset: Dataset) -> Iterator[str]:
    """One line for each thing that is not as the manifest says; none if all is well."""
    manifest = dataset.manifest
    if manifest.original:
        raise DatasetError(
            f"{dataset.directory}: this dataset lists photographs that were not packed; "
            "only packed datasets can be verified"
        )
    yield from _digest(dataset.directory, "mean.npy", manifest.mean_sha256)
    total = manifest.train.samples + manifest.val.samples
    with ProgressBar("verify", total, "images") as progress:
        for name, split in (("train", manifest.train), ("val", manifest.val)):
            yield from _digest(dataset.directory, f"{name}/index.npy", split.index_sha256)
            index = _index(dataset.directory / name / "index.npy")
            if index is None:
                yield f"{name}/index.npy: the file is not an index of images"
                continue
            if wrong := np.flatnonzero(index["label"] >= len(manifest.classes)).tolist():
                yield f"{name}/index.npy: row {wrong[0]} has label {index['label'][wrong[0]]}"
            check = partial(_shard, dataset.directory, name, split, index, manifest.size)
            with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the GIL
                for shard, lines in zip(split.shards, pool.map(check, split.shards), strict=True):
                    yield from lines
                    progress.advance(shard.samples)


def _shard(
    directory: Path, split: str, manifest: SplitManifest, index: np.ndarray, size: int,
    shard: ShardFile,
) -> list[str]:  # fmt: skip
    name = f"{split}/{shard.file}"
    try:
        content = (directory / name).read_bytes()
    except OSError as error:
        return [f"{name}: {error.strerror}"]
    lines = []
    if hashlib.sha256(content).hexdigest() != shard.sha256:
        lines.append(f"{name}: {CHANGED}")
    rows = index[index["shard"] == manifest.shards.index(shard)]
    if len(rows) != shard.samples:
        lines.append(f"{name}: the index has {len(rows)} images, the manifest {shard.samples}")
    numbers = np.flatnonzero(index["shard"] == manifest.shards.index(shard)).tolist()
    for number, row in zip(numbers, rows, strict=True):
        if fault := _sample(content, row, size):
            lines.append(f"{name}, at byte {row['offset']} (image {number}): {fault}")
    return lines


def _sample(content: bytes, row: np.ndarray, size: int) -> str | None:
    """What is wrong with the image and label that an index row points at."""
    _, length, offset, label = row.tolist()
    try:
        header = _header(content, offset)
        if not header.name.endswith(".jpg") or header.size != length:
            return f"the index has a JPEG of {length} bytes at {offset}, the file {header.name}"
        padded = -(-length // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        after = offset + padded + tarfile.BLOCKSIZE
        text = content[after : after + _header(content, after).size]
        if text != str(label).encode():
            return f"{header.name}: the label is {text.decode()}, in the index {label}"
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        return f"there is no image at byte {offset}, where the index has one ({error})"
    jpeg = content[offset : offset + length]
    try:
        to_square(jpeg, size, ("JPEG",))
    except ImageError as error:
        return f"{header.name}: {error}"
    image = Image.open(io.BytesIO(jpeg))
    if image.size != (size, size) or image.mode != "RGB":
        return f"{header.name}: {image.mode} of {image.width} x {image.height}, not {size} x {size}"
    return None


def _header(content: bytes, offset: int) -> tarfile.TarInfo:
    """The header of the tar member whose data starts at `offset`."""
    block = content[max(offset - tarfile.BLOCKSIZE, 0) : offset]
    return tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")


def _digest(directory: Path, name: str, sha256: str) -> Iterator[str]:
    try:
        if hashlib.sha256((directory / name).read_bytes()).hexdigest() != sha256:
            yield f"{name}: {CHANGED}"
    except OSError as error:
        yield f"{name}: {error.strerror}"


def _index(path: Path) -> np.ndarray | None:
    try:
        index = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return index if index.dtype == INDEX and index.ndim == 1 else None
