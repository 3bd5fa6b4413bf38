"""One shard of a dataset: the tar file a packing task writes, and the record that keeps it.

A record is what the task returns, beside a fingerprint of all it was made from. Packing that is
interrupted and run again takes shards from their records as long as the fingerprints agree.
"""

import hashlib
import io
import json
import tarfile
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from PIL import Image

from alexnet.pixels import MAX_PIXELS, MOST_PIXELS, PACKED, ImageError, Limits, pillow_takes
from alexnet.store.url import Place
from pipeline.decoder import Decoder
from pipeline.destination import RECORDS, Destination, open_destination
from pipeline.manifest import INDEX, ShardFile, SplitName
from pipeline.sources.remote import Stored
from pipeline.sources.source import Reader, Sample
from pipeline.statistics import Sums

JPEG_QUALITY = 90
RULES = f"{PACKED.resampling.name} {JPEG_QUALITY} 2"
"""Part of every fingerprint. Raise the number when the same photograph gives other bytes."""
DIGEST_BYTES = 16
AHEAD = 16
"""Photographs that are read ahead where they come from a store."""

T = TypeVar("T")


@dataclass(frozen=True)
class ShardPlan:
    """The samples of which one task makes a shard, and the shard's place in the dataset."""

    split: SplitName
    number: int
    samples: list[Sample]
    size: int
    """Rows and columns of each image."""
    max_pixels: int = MAX_PIXELS
    """Of a photograph; larger ones are refused."""

    @property
    def file(self) -> str:
        return f"{self.number:05d}.tar"

    @property
    def name(self) -> str:
        """Of the shard in the dataset."""
        return f"{self.split}/{self.file}"


@dataclass
class PackedShard:
    """What one task made of its plan."""

    file: ShardFile
    index: np.ndarray
    """INDEX rows."""
    source: str
    """SHA-256 over key, label and bytes of every sample, the refused ones too."""
    refused: list[dict[str, str]]
    packed: np.ndarray
    """Which of the plan's samples are in it, int64, in the order of `index`."""
    digest_ND: np.ndarray
    """The first bytes of each JPEG's SHA-256, (samples, DIGEST_BYTES) uint8."""


def pack_shard(reader: Reader, plan: ShardPlan, place: Place) -> tuple[PackedShard, Sums]:
    """Write the plan's tar file into the dataset at `place`, unless a record says it is there.

    Returns the shard and the sums over its images. What cannot be read or decoded is left out
    and listed. Raises UserError where it cannot be written, as on a full disk.
    """
    destination = open_destination(place)
    record = f"{RECORDS}/{plan.split}-{plan.number:05d}.npz"
    fingerprint = _fingerprint(reader, plan)
    if kept := _kept(destination, record, fingerprint, plan.name):
        return kept
    with pillow_takes(plan.max_pixels), Decoder(Limits(plan.max_pixels)) as decode:
        content, shard, sums = _packed(reader, plan, decode)
    destination.write(plan.name, content)
    destination.write(record, _dump(shard, sums, fingerprint))
    return shard, sums


def encode(image: Image.Image) -> bytes:
    """JPEG with chroma at half resolution (4:2:0): a third faster to decode than 4:4:4."""
    file = io.BytesIO()
    # Without the photograph's own comment, which Pillow takes over; it may be too long for a JPEG.
    image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling="4:2:0", comment=b"")
    return file.getvalue()


def _packed(reader: Reader, plan: ShardPlan, decode: Decoder) -> tuple[bytes, PackedShard, Sums]:
    source, sums = hashlib.sha256(), Sums.zero(plan.size, np.float32)
    rows, packed, digests = [], [], []
    refused: list[dict[str, str]] = []
    tar = bytearray()
    answers = _answers(reader, reader.read, plan.samples)
    for position, (sample, answer) in enumerate(zip(plan.samples, answers, strict=True)):
        source.update(f"{sample.key}\0{sample.label}\0".encode("utf-8", "surrogateescape"))
        try:
            data = answer()
            source.update(hashlib.sha256(data).digest())
            image = decode(data, plan.size)
        except (ImageError, OSError) as error:
            kind = error.kind if isinstance(error, ImageError) else "unreadable"
            place = {"split": plan.split, "key": sample.key, "file": sample.location}
            refused.append(place | {"kind": kind, "reason": _reason(error)})
            continue
        # Before JPEG: a second decoding would cost a quarter of the time for a mean that
        # differs by rounding.
        sums.add(image)
        jpeg = encode(image)
        offset = _add(tar, f"{sample.key}.jpg", jpeg)
        _add(tar, f"{sample.key}.cls", str(sample.label).encode())
        rows.append((plan.number, len(jpeg), offset, sample.label))
        packed.append(position)
        digests.append(hashlib.sha256(jpeg).digest()[:DIGEST_BYTES])
    content = bytes(tar.ljust(_padded(len(tar) + 2 * tarfile.BLOCKSIZE, tarfile.RECORDSIZE), b"\0"))
    shard = PackedShard(
        file=ShardFile(
            file=plan.file,
            samples=len(rows),
            size=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        ),
        index=np.array(rows, INDEX),
        source=source.hexdigest(),
        refused=refused,
        packed=np.array(packed, np.int64),
        digest_ND=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES),
    )
    return content, shard, sums


def _answers(
    reader: Reader, ask: Callable[[str], T], samples: list[Sample]
) -> Iterator[Callable[[], T]]:
    """What `ask` says of each sample, or raises, when called for; a store is asked some ahead."""
    if not isinstance(reader, Stored):
        yield from (partial(ask, sample.location) for sample in samples)
        return
    with ThreadPoolExecutor(AHEAD) as pool:
        asked: deque[Future[T]] = deque()
        for sample in samples:
            asked.append(pool.submit(ask, sample.location))
            if len(asked) > AHEAD:
                yield asked.popleft().result
        while asked:
            yield asked.popleft().result


def _reason(error: Exception) -> str:
    if isinstance(error, ImageError) and error.what == "pixels":
        return f"{error}; --max-pixels sets it, up to {MOST_PIXELS:,}"
    return str(error)


def _add(tar: bytearray, name: str, data: bytes) -> int:
    """Append one file, with nothing in its header but name and size; returns where it starts."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar += header.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    offset = len(tar)
    tar += data.ljust(_padded(len(data), tarfile.BLOCKSIZE), b"\0")
    return offset


def _padded(length: int, block: int) -> int:
    return -(-length // block) * block


def _fingerprint(reader: Reader, plan: ShardPlan) -> str:
    """SHA-256 of all that decides the shard's bytes; of the photographs only their stamps."""
    rules = f"{RULES} {plan.size} {plan.max_pixels} {plan.split} {plan.number}"
    digest = hashlib.sha256(rules.encode())
    answers = _answers(reader, reader.stamp, plan.samples)
    for sample, answer in zip(plan.samples, answers, strict=True):
        try:
            stamp = answer()
        except OSError as error:
            stamp = str(error)
        words = f"{sample.key}\0{sample.label}\0{sample.location}\0{stamp}\0"
        digest.update(words.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _dump(shard: PackedShard, sums: Sums, fingerprint: str) -> bytes:
    text = {
        "fingerprint": fingerprint,
        "file": shard.file.model_dump(),
        "source": shard.source,
        "refused": shard.refused,
    }
    file = io.BytesIO()
    np.savez(
        file,
        text=np.array(json.dumps(text)),
        index=shard.index,
        packed=shard.packed,
        digest_ND=shard.digest_ND,
        pictures=sums.images,
        pixel_3SS=sums.pixel_3SS,
        product_6=sums.product_6,
    )
    return file.getvalue()


def _kept(
    destination: Destination, record: str, fingerprint: str, name: str
) -> tuple[PackedShard, Sums] | None:
    """What `record` holds, if that was made from the same and the file is still what it was."""
    try:
        with np.load(io.BytesIO(destination.read(record))) as saved:
            text = json.loads(str(saved["text"]))
            if text["fingerprint"] != fingerprint:
                return None
            shard = PackedShard(
                file=ShardFile.model_validate(text["file"]),
                index=saved["index"],
                source=text["source"],
                refused=text["refused"],
                packed=saved["packed"],
                digest_ND=saved["digest_ND"],
            )
            sums = Sums(int(saved["pictures"]), saved["pixel_3SS"], saved["product_6"])
        same = destination.holds(name, shard.file)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return (shard, sums) if same else None
