"""Validation images that are nearly the same as a training image: perceptual hashes.

What a network has been taught it answers better than what it has not seen, so such images make an
accuracy look better than it is. `pack` finds equal bytes; these hashes also find what was saved
again, at another size or quality.

Shapes: N validation images, T training images, B bytes of a hash.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import faiss
import imagehash
import numpy as np
from PIL import Image

from alexnet.pixels import ImageError, to_square
from pipeline.dataset import Dataset
from pipeline.progress import ProgressBar
from pipeline.split import Split

SIDE = 12
"""Frequencies a hash has of rows, and of columns: 144 bits."""
PIXELS = 4 * SIDE
"""Rows and columns that ImageHash shrinks an image to."""
DISTANCE = 16
"""Bits that may differ. Photographs of Imagenette that were saved again, at 30 to 200 % of their
size, at a quality of 20 to 75, in grey, or with 1 % cut off every edge, differ in up to 16; of two
different photographs, one in each split, none differ in fewer than 24."""
AT_ONCE = 1024


class Duplicate(NamedTuple):
    """A validation image, and the training image that looks most like it."""

    val: int
    train: int
    distance: int
    """Bits of the hashes that differ."""


class Duplicates(NamedTuple):
    """What is shown of the validation images that are nearly training images."""

    total: int
    shown: list[Duplicate]


class Hashes(NamedTuple):
    """Of the images of a split that can be decoded."""

    hash_NB: np.ndarray
    """uint8."""
    sample_N: np.ndarray
    """int64, index in the split."""


def find_duplicates(dataset: Dataset, most: int) -> Duplicates:
    """The validation images within DISTANCE of a training image, the nearest first; up to `most`
    are listed. 26 bytes an image are in memory."""
    return nearest(hashes(dataset.train), hashes(dataset.val), most)


def nearest(train: Hashes, val: Hashes, most: int) -> Duplicates:
    """As `find_duplicates`, of hashes."""
    if not len(train.sample_N) or not len(val.sample_N):
        return Duplicates(0, [])
    index = faiss.IndexBinaryFlat(8 * train.hash_NB.shape[1])
    index.add(train.hash_NB)
    distance_N1, place_N1 = index.search(val.hash_NB, 1)
    near = np.flatnonzero(distance_N1[:, 0] <= DISTANCE)
    order = near[np.argsort(distance_N1[near, 0], kind="stable")]
    return Duplicates(
        len(near),
        [
            Duplicate(
                int(val.sample_N[row]),
                int(train.sample_N[place_N1[row, 0]]),
                int(distance_N1[row, 0]),
            )
            for row in order[:most]
        ],
    )


def hash_image(image: Image.Image) -> np.ndarray:
    """Which of an image's low frequencies are above their median (pHash), (B,) uint8."""
    return np.packbits(imagehash.phash(image, hash_size=SIDE, highfreq_factor=PIXELS // SIDE).hash)


def hashes(split: Split) -> Hashes:
    """The hashes of a split; images that cannot be decoded are left out."""

    def hashed(sample: int) -> np.ndarray | None:
        try:
            return hash_image(to_square(split.jpeg(sample).tobytes(), PIXELS))
        except ImageError:
            return None

    hash_NB = np.empty((len(split), SIDE * SIDE // 8), np.uint8)
    whole_N = np.zeros(len(split), bool)
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        ProgressBar("look for duplicates", len(split), "images") as progress,
    ):
        for start in range(0, len(split), AT_ONCE):
            samples = range(start, min(start + AT_ONCE, len(split)))
            for sample, found in zip(samples, pool.map(hashed, samples), strict=True):
                if found is not None:
                    hash_NB[sample], whole_N[sample] = found, True
            progress.advance(len(samples))
    return Hashes(hash_NB[whole_N], np.flatnonzero(whole_N))
