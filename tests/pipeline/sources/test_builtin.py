"""The drawn images: the same everywhere, of different sizes, real JPEGs."""

import io

import numpy as np
from PIL import Image

from pipeline.sources.builtin import CLASSES, draw


def test_the_same_seed_draws_the_same_bytes_and_another_does_not() -> None:
    assert draw("17", seed=1) == draw("17", seed=1)
    assert draw("17", seed=1) != draw("17", seed=2)
    assert draw("17", seed=1) != draw("27", seed=1)


def test_every_class_is_drawn_in_many_sizes_and_in_contrast() -> None:
    images = [Image.open(io.BytesIO(draw(str(n), seed=0))) for n in range(5 * len(CLASSES))]
    assert {image.format for image in images} == {"JPEG"}
    assert len({image.size for image in images}) > 40
    assert all(np.asarray(image).std() > 8 for image in images)
