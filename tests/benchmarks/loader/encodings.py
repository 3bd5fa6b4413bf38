"""python -m tests.benchmarks.loader.encodings: what JPEG costs, in bytes, decibels and answers."""

import io
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from typer import Argument

from alexnet.checkpoint import Checkpoint, load
from alexnet.command import UserError
from alexnet.console import Options
from alexnet.pixels import ImageError, ImageRule, whole_image
from alexnet.views import probabilities
from pipeline.progress import ProgressBar
from pipeline.sources import Sample, open_source
from pipeline.sources.source import VAL_FRACTION, Reader
from tests.benchmarks.harness import run, table

JPEGS = ((75, "4:2:0"), (85, "4:2:0"), (90, "4:2:0"), (90, "4:4:4"), (95, "4:2:0"))
CODINGS: dict[str, dict[str, Any]] = {"lossless (PNG)": {"format": "PNG"}} | {
    f"JPEG {quality}, {chroma}": {"format": "JPEG", "quality": quality, "subsampling": chroma}
    for quality, chroma in JPEGS
}
"""What Pillow saves by; the others are compared with the first."""
ROUNDS = 3
BATCH = 12
"""Images; ten views of each go through the network at once."""


@dataclass(frozen=True)
class Row:
    coding: str
    bytes_per_image: float
    decoded_per_core_s: float
    """Images per second of CPU time, Pillow on one thread, best round."""
    psnr_db: float | None
    """Against the images before encoding; None if all are equal."""
    top1: int
    """Images whose most probable label, of ten views, is the right one."""
    changed: int
    """Images whose most probable label differs from that of the lossless image."""


class Encodings(Options):
    """Encode validation images in several ways, and ask a network about each."""

    source: Annotated[str, Argument()]
    """Photographs, as for `alexnet pack`."""
    model: Annotated[Path, Argument()]
    """A published model of the same classes."""
    size: int | None = Field(None, ge=1)
    """Rows and columns of each image; the model's if not given."""
    limit: int | None = Field(None, ge=1)
    """At most so many validation images; all if not given."""


def main(arguments: Sequence[str] | None = None) -> int:
    example = "imagenette bench/models/imagenette"
    return run("loader.encodings", Encodings, bench, arguments, example)


def bench(options: Encodings) -> int:
    checkpoint = load(options.model)
    source = open_source(options.source, VAL_FRACTION, class_names=None)
    if [c.id for c in source.classes] != [c.id for c in checkpoint.about.classes]:
        raise UserError(f"{options.model} and {options.source} have different classes")
    samples = source.splits["val"]
    every = math.ceil(len(samples) / options.limit) if options.limit else 1
    samples = samples[::every]  # from all classes: they come in the order of their keys
    size, rule = options.size or checkpoint.about.size, checkpoint.about.rule
    images = [_whole(source.reader, sample, size, rule) for sample in samples]
    rows = measure(images, np.array([sample.label for sample in samples]), checkpoint)
    print(f"\n{_table(rows, len(samples))}")
    print(json.dumps({"pictures": len(samples), "size": size, "rows": [asdict(r) for r in rows]}))
    return 0


def _whole(reader: Reader, sample: Sample, size: int, rule: ImageRule) -> np.ndarray:
    try:
        return whole_image(reader.read(sample.location), size, rule=rule)
    except ImageError as error:
        raise UserError(f"{sample.location}: {error}; remove it from the source") from None


def measure(images: list[np.ndarray], label_N: np.ndarray, checkpoint: Checkpoint) -> list[Row]:
    """A row for each of CODINGS; `images` are (size, size, 3) uint8."""
    codings = {name: [encode(p, **save) for p in images] for name, save in CODINGS.items()}
    rows, answered = [], []
    with ProgressBar("quality", len(CODINGS) * len(images), "images") as progress:
        for (name, files), cpu_s in zip(codings.items(), decoding_s(codings), strict=True):
            decoded = [decode(file) for file in files]
            answered.append(answers(decoded, checkpoint, progress))
            row = Row(
                coding=name,
                bytes_per_image=sum(map(len, files)) / len(files),
                decoded_per_core_s=len(files) / cpu_s,
                psnr_db=psnr_db(images, decoded),
                top1=int((answered[-1] == label_N).sum()),
                changed=int((answered[-1] != answered[0]).sum()),
            )
            rows.append(row)
    return rows


def encode(image_SS3: np.ndarray, **save: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image_SS3).save(file, **save)
    return file.getvalue()


def decode(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


def decoding_s(codings: dict[str, list[bytes]]) -> list[float]:
    """CPU seconds to decode all images of each coding: the best of interleaved rounds."""

    def once(files: list[bytes]) -> float:
        start_s = time.process_time()
        for file in files:
            decode(file)
        return time.process_time() - start_s

    rounds = [[once(files) for files in codings.values()] for _ in range(ROUNDS)]
    return np.min(rounds, axis=0).tolist()


@torch.inference_mode()
def answers(images: list[np.ndarray], checkpoint: Checkpoint, progress: ProgressBar) -> np.ndarray:
    """The most probable label of each image, of ten views, (N,) int64."""
    labels = []
    for first in range(0, len(images), BATCH):
        image_N3SS = torch.from_numpy(np.stack(images[first : first + BATCH])).movedim(-1, 1)
        probability_NK = probabilities(checkpoint.model, image_N3SS, checkpoint.mean_3HW, views=10)
        labels.append(probability_NK.argmax(dim=1).numpy())
        progress.advance(len(image_N3SS))
    return np.concatenate(labels)


def psnr_db(before: list[np.ndarray], after: list[np.ndarray]) -> float | None:
    """Peak signal (255) to noise over all values of all images; None without noise."""
    pairs = zip(before, after, strict=True)
    squares = sum(int(((a.astype(np.int64) - b) ** 2).sum()) for a, b in pairs)
    return 10 * math.log10(255**2 * sum(a.size for a in before) / squares) if squares else None


def _table(rows: list[Row], images: int) -> str:
    return table(
        (
            "coding", "bytes an image", "decoded per core-second", "PSNR, dB", "top-1, 10 views",
            "answers changed",
        ),
        [
            (
                row.coding, f"{row.bytes_per_image:,.0f}", f"{row.decoded_per_core_s:,.0f}",
                "–" if row.psnr_db is None else f"{row.psnr_db:.2f}",
                f"{row.top1:,} = {100 * row.top1 / images:.2f} %", f"{row.changed:,}",
            )
            for row in rows
        ],
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
