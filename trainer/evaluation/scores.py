"""How right answers are: pure functions of probabilities and labels.

Shapes: N images, K classes.
"""

from collections.abc import Sequence
from math import fsum

import torch
from pydantic import BaseModel, ConfigDict, computed_field
from torch import Tensor

from alexnet.checkpoint import Accuracy
from alexnet.classes import ClassLabel

BINS = 15
"""Of probabilities, as by Guo et al."""


class ClassScore(BaseModel):
    """Exact counts over the images of one class."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    pictures: int
    top1: int
    top5: int


class Confusion(BaseModel):
    """How many images of class `label` were taken for `guess`; both are class ids."""

    model_config = ConfigDict(frozen=True)

    label: str
    guess: str
    pictures: int


class Score(Accuracy):
    """Exact counts, over all images and over those of each class."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # reads back the errors it writes

    ece: float
    """The expected calibration error."""
    nll: float
    """The mean negative log-likelihood of the right label."""
    classes: tuple[ClassScore, ...]
    """The classes in label order."""
    confusions: tuple[Confusion, ...]
    """Confusions, the most frequent first, then in label order."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def top1_error(self) -> float:
        return 1 - self.top1 / self.pictures

    @computed_field  # type: ignore[prop-decorator]
    @property
    def top5_error(self) -> float:
        return 1 - self.top5 / self.pictures


def ranks(probability_NK: Tensor, label_N: Tensor) -> Tensor:
    """How many labels are guessed before the right one, int64 (N,); 0 is a right best guess.

    Of equally probable labels the first comes first. What is not a number beats every number, so
    that a broken network is never right.
    """
    right_N1 = probability_NK.gather(1, label_N[:, None])
    class_K = torch.arange(probability_NK.shape[1], device=probability_NK.device)
    later_NK = class_K >= label_N[:, None]  # and the label itself
    beaten_NK = (probability_NK < right_N1) | ((probability_NK == right_N1) & later_NK)
    return probability_NK.shape[1] - beaten_NK.sum(1)


def macro_average(right_K: Sequence[int], images_K: Sequence[int]) -> float:
    """The mean of the shares that are right, over the classes that have images; each counts the
    same, however many those are."""
    shares = [right / images for right, images in zip(right_K, images_K, strict=True) if images]
    return fsum(shares) / len(shares)


def reliability(probability_NK: Tensor, label_N: Tensor) -> Tensor:
    """For each of BINS bins of equal width of the probability of the best guess, of which each has
    its upper edge: the images in it, the sum of these probabilities, and how many of the guesses
    are right; (3, BINS) float64."""
    best_N, guess_N = probability_NK.nan_to_num(0).max(dim=1)
    best_N = best_N.double()
    bin_N = ((best_N * BINS).ceil().long() - 1).clamp(0, BINS - 1)
    each_3N = torch.stack([torch.ones_like(best_N), best_N, (guess_N == label_N).double()])
    return torch.zeros(3, BINS, dtype=torch.float64).index_add_(1, bin_N, each_3N)


def calibration_error(probability_NK: Tensor, label_N: Tensor) -> float:
    """The expected calibration error (Guo et al. 2017, §2): how far the probability of the best
    guess is from the share of best guesses that are right, in the bins of `reliability`; by the
    share of images in a bin. N is at least 1."""
    _, sure_B, right_B = reliability(probability_NK, label_N)
    return ((right_B - sure_B).abs().sum() / len(label_N)).item()


def likelihood_loss(probability_NK: Tensor, label_N: Tensor) -> float:
    """The mean negative log-likelihood of the right label, in nats. N is at least 1; a probability
    of 0, or that is not a number, counts as the least that float32 has."""
    right_N1 = probability_NK.nan_to_num(0).gather(1, label_N[:, None]).double()
    least = torch.finfo(torch.float32).smallest_normal
    return -right_N1.clamp(min=least).log().mean().item()


def score(
    probability_NK: Tensor, label_N: Tensor, views: int, classes: Sequence[ClassLabel]
) -> Score:
    """Count what is right and what is taken for what. N is at least 1."""
    count = len(classes)
    rank_N, guess_N = ranks(probability_NK, label_N), probability_NK.argmax(1)
    top1_K, top5_K, images_K = (
        torch.bincount(label_N[chosen_N], minlength=count).tolist()
        for chosen_N in (rank_N < 1, rank_N < 5, rank_N >= 0)
    )
    pair_N = (label_N * count + guess_N)[guess_N != label_N]
    pair_P, times_P = pair_N.unique(return_counts=True)
    # `unique` sorts by label, and a stable sort keeps that order among equal counts.
    order_P = times_P.argsort(descending=True, stable=True)
    return Score(
        views=views,
        pictures=len(label_N),
        top1=sum(top1_K),
        top5=sum(top5_K),
        macro_top1=macro_average(top1_K, images_K),
        ece=calibration_error(probability_NK, label_N),
        nll=likelihood_loss(probability_NK, label_N),
        classes=tuple(
            ClassScore(id=c.id, name=c.name, pictures=images, top1=top1, top5=top5)
            for c, images, top1, top5 in zip(classes, images_K, top1_K, top5_K, strict=True)
        ),
        confusions=tuple(
            Confusion(
                label=classes[pair // count].id, guess=classes[pair % count].id, pictures=times
            )
            for pair, times in zip(pair_P[order_P].tolist(), times_P[order_P].tolist(), strict=True)
        ),
    )
