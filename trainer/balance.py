"""How uneven classes are, and the weights that make up for it."""

import numpy as np

from pipeline.dataset import Dataset


def class_weights(dataset: Dataset) -> np.ndarray:
    """A weight of each class, (K,) float32: inverse to its number of training images, so that all
    classes weigh the same, and 1 in the mean over these images. A class without any has 0."""
    count_K = dataset.train_counts()
    share_K = len(dataset.train) / np.maximum(count_K, 1) / np.count_nonzero(count_K)
    return np.where(count_K > 0, share_K, 0).astype(np.float32)
