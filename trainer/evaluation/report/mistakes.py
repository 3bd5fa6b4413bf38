"""The wrong answers that a model is most sure of.

Shapes: N images, K classes.
"""

from typing import NamedTuple

from torch import Tensor


class Mistake(NamedTuple):
    """An image that was taken for another class."""

    sample: int
    label: int
    guess: int
    probability: float
    """Of the guess."""
    of_label: float
    """The probability of the label."""


def confident_mistakes(probability_NK: Tensor, label_N: Tensor, most: int) -> list[Mistake]:
    """Up to `most` mistakes, the most probable first, of equal ones the first image's first. Beside
    the answers two numbers an image are in memory."""
    best_N, guess_N = probability_NK.max(dim=1)
    wrong_W = (guess_N != label_N).nonzero()[:, 0]
    order_W = best_N[wrong_W].argsort(descending=True, stable=True)
    return [
        Mistake(
            sample,
            label := int(label_N[sample]),
            int(guess_N[sample]),
            float(best_N[sample]),
            float(probability_NK[sample, label]),
        )
        for sample in wrong_W[order_W[:most]].tolist()
    ]
