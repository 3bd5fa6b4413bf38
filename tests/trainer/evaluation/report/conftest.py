"""A dataset with what a page is to show: near-duplicates, and names that nobody may trust."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset import Dataset
from pipeline.photographs import index_photographs
from pipeline.sources.folder import folder_source

CLASSES = ("<script>alert(1)</script>".replace("/", "∕"), "quo\"te & 'co", "plain")
AGAIN = {"again 0": 0, "again 1": 7}
"""Validation images, and the training images that they are once more."""


def drawn(seed: int) -> Image.Image:
    """A soft pattern, unlike that of any other seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
    return coarse.resize((240, 180), Image.Resampling.BICUBIC)


def saved(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


@pytest.fixture(scope="session")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """30 training and 15 validation images, of which AGAIN are smaller copies of poor quality."""
    folder = tmp_path_factory.mktemp("twice")
    for split, first, count in (("train", 0, 30), ("val", 100, 13)):
        for number in range(count):
            path = folder / split / CLASSES[number % 3] / f"<b>{number:03d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(saved(drawn(first + number), 95))
    for name, seed in AGAIN.items():
        small = drawn(seed).resize((150, 112), Image.Resampling.BILINEAR)
        (folder / "val" / CLASSES[2] / f"{name}.jpg").write_bytes(saved(small, 40))
    source = folder_source(folder, 0.1, {})
    return index_photographs(source, tmp_path_factory.mktemp("listed"), 64)
