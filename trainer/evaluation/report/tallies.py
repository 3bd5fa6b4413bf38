"""How sure a share is, and what each class is taken for: pure functions of exact counts.

Shapes: K classes.
"""

from math import sqrt
from typing import NamedTuple

import numpy as np

from trainer.evaluation.scores import Score

Z = 1.959963984540054
"""Standard deviations on either side of the mean that hold 95 % of a normal distribution."""


class ClassTally(NamedTuple):
    """The images of one class, and those that were taken for it."""

    name: str
    images: int
    answers: int
    """Images of all classes whose best guess is this one."""
    right: int

    @property
    def recall(self) -> float | None:
        """The share of the class's images that were found; None where it has none."""
        return self.right / self.images if self.images else None

    @property
    def precision(self) -> float | None:
        """The share of the answers that are right; None where there are none."""
        return self.right / self.answers if self.answers else None


def wilson(right: int, images: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, "Probable inference, the law of succession, and
    statistical inference", 1927): unlike the plain one it never leaves 0 to 1, and it is right for
    few images. `images` is at least 1."""
    share = right / images
    centre = share + Z**2 / (2 * images)
    half = Z * sqrt(share * (1 - share) / images + (Z / (2 * images)) ** 2)
    scale = 1 + Z**2 / images
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def tally(score: Score) -> list[ClassTally]:
    """Every class that has images or answers: the lowest recall first, without images last."""
    answers = {c.id: c.top1 for c in score.classes}
    for pair in score.confusions:
        answers[pair.guess] += pair.pictures
    tallies = [ClassTally(c.name, c.pictures, answers[c.id], c.top1) for c in score.classes]
    asked = [each for each in tallies if each.images or each.answers]
    return sorted(asked, key=lambda each: (not each.images, each.recall))


def confusion_KK(score: Score) -> np.ndarray:
    """How many images of the class of a row were taken for that of a column, (K, K) int64."""
    place = {c.id: number for number, c in enumerate(score.classes)}
    count_KK = np.diag([c.top1 for c in score.classes])
    for pair in score.confusions:
        count_KK[place[pair.label], place[pair.guess]] = pair.pictures
    return count_KK
