"""Images that are probably labelled wrongly: confident learning.

Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", JAIR
2021, §3.1. It needs probabilities by a network that has not seen the images: one that has was
taught their labels, the wrong ones too.

Shapes: N images, K classes.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

ROWS = 4096
"""Images at once, to save memory."""


class Suspect(NamedTuple):
    """An image whose label is in doubt."""

    sample: int
    label: int
    other: int
    """The class that it probably is of."""
    of_label: float
    probability: float
    """Of the other class."""


class Suspects(NamedTuple):
    """The doubtful labels of a set of images, the widest margin between two probabilities first."""

    images: int
    """Of how many images."""
    found_D5: np.ndarray
    """float64, the fields of a `Suspect` in a row."""

    @property
    def total(self) -> int:
        return len(self.found_D5)

    def first(self, most: int) -> list[Suspect]:
        return [
            Suspect(int(sample), int(label), int(other), own, of_other)
            for sample, label, other, own, of_other in self.found_D5[:most].tolist()
        ]


def thresholds(probability_NK: np.ndarray, label_N: np.ndarray) -> np.ndarray:
    """For each class the mean probability that its own images have of it, (K,) float64; not a
    number for a class without images."""
    sum_K = np.zeros(probability_NK.shape[1])
    for row_P in _rows(len(label_N)):
        np.add.at(sum_K, label_N[row_P], probability_NK[row_P, label_N[row_P]])
    count_K = np.bincount(label_N, minlength=len(sum_K))
    return np.divide(sum_K, count_K, out=np.full_like(sum_K, np.nan), where=count_K > 0)


def suspects(probability_NK: np.ndarray, label_N: np.ndarray) -> Suspects:
    """The images whose label has a probability below its class's threshold while another class
    reaches its own and is more probable; of several such classes the most probable is meant. Only
    numbers of doubtful images are kept, so `probability_NK` may be a memory map of any length."""
    threshold_K = thresholds(probability_NK, label_N)
    rows: list[np.ndarray] = [np.empty((0, 5))]
    for row_P in _rows(len(label_N)):
        found_PK = np.asarray(probability_NK[row_P])
        label_P, at_P = label_N[row_P], np.arange(len(row_P))
        own_P = found_PK[at_P, label_P]
        sure_PK = np.where(found_PK >= threshold_K, found_PK, -1)  # NaN is never reached
        other_P = sure_PK.argmax(axis=1)
        of_other_P = sure_PK[at_P, other_P]
        # The paper counts those too that are called by the label all the same: nobody would look
        # for a mistake in them, and cleanlab leaves them out.
        doubtful_P = (own_P < threshold_K[label_P]) & (of_other_P > own_P)
        rows.append(np.stack([row_P, label_P, other_P, own_P, of_other_P], 1)[doubtful_P])
    found_D5 = np.concatenate(rows)
    margin_D = found_D5[:, 4] - found_D5[:, 3]
    return Suspects(len(label_N), found_D5[np.argsort(-margin_D, kind="stable")])


def _rows(count: int) -> Iterator[np.ndarray]:
    for start in range(0, count, ROWS):
        yield np.arange(start, min(start + ROWS, count))
