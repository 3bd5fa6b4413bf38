"""Is a packed dataset what its manifest says, down to every image?"""

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from PIL import Image

from alexnet.pixels import ImageError, to_square
from alexnet.store.errors import MissingError
from pipeline.dataset import Dataset
from pipeline.manifest import INDEX, DatasetError, ShardFile, SplitManifest, SplitName
from pipeline.progress import ProgressBar

CHANGED = "the file has changed since it was packed: its SHA-256 is another"


def damages(dataset: Dataset) -> Iterator[str]:
    """One line for each thing that is not as the manifest says; none if all is well."""
    manifest = dataset.manifest
    if manifest.original:
        raise DatasetError(
            f"{dataset.place}: this dataset lists photographs that were not packed; "
            "only packed datasets can be verified"
        )
    yield from _digest(dataset, "mean.npy", manifest.mean_sha256)
    total = manifest.train.samples + manifest.val.samples
    with ProgressBar("verify", total, "images") as progress:
        splits: dict[SplitName, SplitManifest] = {"train": manifest.train, "val": manifest.val}
        for name, split in splits.items():
            yield from _digest(dataset, f"{name}/index.npy", split.index_sha256)
            index = _index(dataset, name)
            if index is None:
                yield f"{name}/index.npy: the file is not an index of images"
                continue
            if wrong := np.flatnonzero(index["label"] >= len(manifest.classes)).tolist():
                yield f"{name}/index.npy: row {wrong[0]} has label {index['label'][wrong[0]]}"
            check = partial(_shard, dataset, name, split, index, manifest.size)
            with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the GIL
                for shard, lines in zip(split.shards, pool.map(check, split.shards), strict=True):
                    yield from lines
                    progress.advance(shard.samples)


def _shard(
    dataset: Dataset, split: str, manifest: SplitManifest, index: np.ndarray, size: int,
    shard: ShardFile,
) -> list[str]:  # fmt: skip
    name = f"{split}/{shard.file}"
    try:
        content = dataset.read(name)
    except (OSError, MissingError) as error:
        return [f"{name}: {_reason(error)}"]
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


def _digest(dataset: Dataset, name: str, sha256: str) -> Iterator[str]:
    try:
        if hashlib.sha256(dataset.read(name)).hexdigest() != sha256:
            yield f"{name}: {CHANGED}"
    except (OSError, MissingError) as error:
        yield f"{name}: {_reason(error)}"


def _reason(error: OSError | MissingError) -> str | None:
    return error.strerror if isinstance(error, OSError) else "there is no such object"


def _index(dataset: Dataset, name: SplitName) -> np.ndarray | None:
    try:
        index = np.load(io.BytesIO(dataset.read(f"{name}/index.npy")))
    except (OSError, MissingError, ValueError, EOFError):
        return None
    return index if index.dtype == INDEX and index.ndim == 1 else None
