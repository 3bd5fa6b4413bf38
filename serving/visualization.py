"""Images that answers are made of: the conv1 kernels, and a map over a photograph."""

import io

import numpy as np
from PIL import Image
from torch import Tensor

GAP = 1
"""Pixels between kernels."""
FOR, AGAINST = (214, 39, 40), (31, 119, 180)
"""Colours where hiding a part lowers the probability, and where it raises it."""
STRONGEST = 0.7
"""Opacity of the map at its extreme."""


def kernel_sheet(kernel_C3HW: Tensor) -> bytes:
    """(C, 3, H, W) -> PNG, sixteen in a row, zero as mid grey, all on one scale (Figure 3)."""
    scaled_CHW3 = (kernel_C3HW / kernel_C3HW.abs().max() / 2 + 0.5).permute(0, 2, 3, 1).numpy()
    count, height, width, _ = scaled_CHW3.shape
    columns = min(16, count)
    rows = -(-count // columns)
    sheet = np.ones((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3))
    for number, kernel_HW3 in enumerate(scaled_CHW3):
        y = GAP + number // columns * (height + GAP)
        x = GAP + number % columns * (width + GAP)
        sheet[y : y + height, x : x + width] = kernel_HW3
    return _png((255 * sheet).round().astype(np.uint8))


def overlay(image_SS3: np.ndarray, map_HW: Tensor) -> bytes:
    """The map in colour over the centre of the image -> PNG of the image's size."""
    rows, columns = map_HW.shape
    top, left = (image_SS3.shape[0] - rows) // 2, (image_SS3.shape[1] - columns) // 2
    strength_HW1 = (map_HW / map_HW.abs().max().clamp(min=1e-12)).numpy()[..., None]
    colour_HW3 = np.where(strength_HW1 > 0, FOR, AGAINST)
    opacity_HW1 = STRONGEST * np.abs(strength_HW1)
    # In pale grey, so that all colour is the map's.
    drawn = 128 + 0.5 * image_SS3.mean(axis=2, keepdims=True).repeat(3, axis=2)
    part = drawn[top : top + rows, left : left + columns]
    part += opacity_HW1 * (colour_HW3 - part)
    return _png(drawn.round().astype(np.uint8))


def _png(pixel_HW3: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixel_HW3).save(file, "PNG")
    return file.getvalue()
