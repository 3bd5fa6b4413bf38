"""What is drawn on the page, as numbers that its template puts into SVG, and as PNG.

Shapes: K classes, B bins.
"""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

LABELLED = 30
"""Classes of which every cell of the confusion matrix has its number and its names."""
DRAWN = 2500
"""Classes of which the matrix is drawn at all."""
PNG_SIDE = 400
"""Rows and columns at most of the matrix of many classes; several cells share a pixel beyond."""
NAME = 20
"""Letters of a class that stand beside the matrix."""
RIGHT, WRONG = (47, 111, 190), (200, 85, 40)
"""Blue and orange, which show on light and on dark."""


class Cell(NamedTuple):
    row: int
    column: int
    images: int
    share: float
    """Of the images of its row."""


class Matrix(NamedTuple):
    """A confusion matrix, cell by cell."""

    names: list[str]
    cells: list[Cell]
    """Those that have images."""


class Bar(NamedTuple):
    """A bin of the reliability diagram that has images."""

    low: float
    high: float
    images: int
    mean: float
    """Of the probabilities of the best guesses."""
    right: float
    """The share of these guesses that are right."""


def shortened(name: str) -> str:
    return name if len(name) <= NAME else name[: NAME - 1] + "…"


def matrix(count_KK: np.ndarray, names: list[str]) -> Matrix:
    """Of the classes that have images or answers, in label order."""
    there = np.flatnonzero(count_KK.sum(0) + count_KK.sum(1))
    count_CC = count_KK[np.ix_(there, there)]
    share_CC = _shares(count_CC)
    cells = [
        Cell(row, column, int(count_CC[row, column]), float(share_CC[row, column]))
        for row, column in np.argwhere(count_CC).tolist()
    ]
    return Matrix([names[label] for label in there], cells)


def matrix_png(count_KK: np.ndarray) -> bytes:
    """The confusion matrix of many classes: a row a label, a column an answer, both in label order.
    The more of a row's images, the less transparent; of cells that share a pixel, the largest."""
    share_KK = _shares(count_KK)
    factor = -(-len(share_KK) // PNG_SIDE)
    side = -(-len(share_KK) // factor)
    padded = np.zeros((side * factor, side * factor))
    wrong, right = padded.copy(), padded
    wrong[: len(share_KK), : len(share_KK)] = share_KK - np.diag(np.diag(share_KK))
    right[np.arange(len(share_KK)), np.arange(len(share_KK))] = np.diag(share_KK)
    wrong_SS, right_SS = (
        each.reshape(side, factor, side, factor).max(axis=(1, 3)) for each in (wrong, right)
    )
    pixel_SS4 = np.empty((side, side, 4), np.uint8)
    pixel_SS4[..., :3] = np.where((right_SS > wrong_SS)[..., None], RIGHT, WRONG)
    pixel_SS4[..., 3] = (255 * np.sqrt(np.maximum(right_SS, wrong_SS))).round()
    file = io.BytesIO()
    Image.fromarray(pixel_SS4).save(file, "PNG", optimize=True)
    return file.getvalue()


def bars(reliability_3B: Tensor) -> list[Bar]:
    """The bins of a `reliability` that have images."""
    edge = 1 / reliability_3B.shape[1]
    return [
        Bar(number * edge, (number + 1) * edge, int(images), sure / images, right / images)
        for number, (images, sure, right) in enumerate(reliability_3B.T.tolist())
        if images
    ]


def _shares(count_KK: np.ndarray) -> np.ndarray:
    return count_KK / np.maximum(count_KK.sum(axis=1, keepdims=True), 1)
