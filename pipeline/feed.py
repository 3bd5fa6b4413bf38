"""What crosses between Python and DALI, by name: columns of N rows, one row a sample.

Training: `TrainFeed` goes into the graph, `Crops` come out of it on a CPU, `Images` on a GPU.
Evaluation: `WholeFeed` goes in and `Images` come out.
"""

from typing import Any, NamedTuple, TypeVar

import numpy as np


class TrainFeed(NamedTuple):
    """One batch of training samples."""

    file: list[np.ndarray]
    """The bytes of each file, uint8."""
    crop_N2: np.ndarray
    """float32, from 0 to 1: where the crop starts in what is left around it, rows and columns."""
    mirror_N: np.ndarray
    """int32, 1 where the crop is mirrored."""
    mean_N3: np.ndarray
    """float32, what is subtracted from every pixel of the sample."""
    label_N: np.ndarray
    """int64."""
    real_N: np.ndarray
    """bool, False for padding."""
    sample_N: np.ndarray
    """int64, index in the split."""


class WholeFeed(NamedTuple):
    """One batch of whole images, its fields as in `TrainFeed`."""

    file: list[np.ndarray]
    label_N: np.ndarray
    real_N: np.ndarray
    sample_N: np.ndarray


class Crops(NamedTuple):
    """Training images that `pipeline.finish` still has to mirror and to subtract the means from."""

    image_NHW3: Any
    """uint8."""
    mirror_N: Any
    mean_N3: Any
    label_N: Any
    real_N: Any
    sample_N: Any


class Images(NamedTuple):
    """Images as the network takes them, and what belongs to each."""

    image_NHW3: Any
    label_N: Any
    real_N: Any
    sample_N: Any


Feed = TypeVar("Feed", TrainFeed, WholeFeed)
