"""Mean and principal components against numpy on all pixels at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.statistics import PAIRS, Sums


@given(seed=st.integers(0, 1000), cut=st.integers(0, 6))
def test_sums_are_those_of_all_pixels_however_grouped(seed: int, cut: int) -> None:
    random = np.random.default_rng(seed)
    tint = random.uniform(0.2, 1, 3)
    image_NSS3 = (random.integers(0, 256, (6, 8, 8, 1)) * tint).astype(np.uint8)
    left, right = Sums.zero(8, np.float32), Sums.zero(8)
    for part, images in ((left, image_NSS3[:cut]), (right, image_NSS3[cut:])):
        for image in images:
            part.add(Image.fromarray(image))
    right.merge(left)
    assert right.images == 6
    assert np.array_equal(right.mean_image(), image_NSS3.mean(axis=0).astype(np.float32))

    pixel_P3 = image_NSS3.reshape(-1, 3).astype(np.float64)
    colour = right.colour()
    vector, value = np.array(colour.eigenvectors), np.array(colour.eigenvalues)
    assert np.allclose(colour.mean, pixel_P3.mean(axis=0), atol=1e-6)
    covariance = np.cov(pixel_P3.T, bias=True)
    assert np.allclose(vector @ np.diag(value) @ vector.T, covariance, atol=1e-3)
    assert np.allclose(vector.T @ vector, np.eye(3), atol=1e-7)
    assert list(value) == sorted(value)


@pytest.mark.parametrize("size", [64, 256, 258, 259, 400])
def test_sums_of_nearly_white_images_are_exact(size: int) -> None:
    """The largest numbers there are, odd ones among them."""
    pixels = np.random.default_rng(size).integers(250, 256, (size, size, 3), np.uint8)
    sums = Sums.zero(size, np.float32)
    for _ in range(3):
        sums.add(Image.fromarray(pixels))
    assert np.array_equal(sums.pixel_3SS.transpose(1, 2, 0), 3 * pixels.astype(np.int64))
    pixel_P3 = pixels.reshape(-1, 3).astype(np.int64)
    product_33 = 3 * pixel_P3.T @ pixel_P3
    assert sums.product_6.tolist() == [product_33[i, j] for i, j in PAIRS]


def test_signs_do_not_depend_on_the_library() -> None:
    """The largest entry of every eigenvector is positive."""
    sums = Sums.zero(16)
    for seed in range(3):
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)
        sums.add(Image.fromarray(pixels))
    vector = np.array(sums.colour().eigenvectors)
    assert (vector[np.abs(vector).argmax(axis=0), range(3)] > 0).all()
