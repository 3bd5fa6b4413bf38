"""Several networks as one: the mean of their probabilities (§6, Table 2).

Shapes: N images, K classes, M models.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from alexnet.command import UserError
from trainer.evaluation.scores import ranks

START = 0.5
GRID = tuple(step / 20 for step in range(21))
PASSES = 5


class Mixture(NamedTuple):
    """One model, or several as one."""

    name: str
    weights: tuple[float, ...]
    """A weight for each model, to be divided by their sum; a single model has 1, the others 0."""
    searched: bool


def mixtures(
    names: Sequence[str], probability_MNK: Tensor, label_N: Tensor, search: bool
) -> list[Mixture]:
    """Each model by itself, their average, and on request their average by searched weights."""
    count = len(names)
    singles = [tuple(float(n == model) for n in range(count)) for model in range(count)]
    found = [Mixture(name, single, False) for name, single in zip(names, singles, strict=True)]
    if count > 1:
        found.append(Mixture(f"{count} CNNs", (1.0,) * count, False))
    if search:
        weights = search_weights(probability_MNK, label_N)
        found.append(Mixture(f"{count} CNNs, weights searched", weights, True))
    return found


def check_search(asked: bool, models: int, classes: int) -> None:
    """Refuse, with UserError, a search of weights that cannot find any."""
    if asked and models < 2:
        raise UserError("--search-weights needs several models, but one is given; name more")
    if asked and classes <= 5:
        raise UserError(
            "--search-weights lowers the top-5 error, which is always 0 with "
            f"{classes} classes; leave it out"
        )


def mixed(probability_MNK: Tensor, weight_M: Sequence[float]) -> Tensor:
    """Weighted mean of the models' probabilities, (M, N, K) -> (N, K)."""
    total_NK = probability_MNK[0] * weight_M[0]
    for probability_NK, weight in zip(probability_MNK[1:], weight_M[1:], strict=True):
        total_NK.add_(probability_NK, alpha=weight)
    return total_NK.div_(sum(weight_M))


def search_weights(probability_MNK: Tensor, label_N: Tensor, top: int = 5) -> tuple[float, ...]:
    """Weights with fewer top-5 errors than equal ones, where there are any (avg-valid.py, 2012);
    with another `top`, fewer errors of that kind.

    Each weight in turn takes the value of GRID that is best while the others stay, in up to PASSES
    passes. Tuned on the images it is given: their error says too little about others.
    """

    def errors(weight_M: Sequence[float]) -> int:
        return int((ranks(mixed(probability_MNK, weight_M), label_N) >= top).sum())

    best = [START] * len(probability_MNK)
    fewest = errors(best)
    for _ in range(PASSES):
        before = fewest
        for model in range(len(best)):
            for value in GRID:
                tried = [*best[:model], value, *best[model + 1 :]]
                if any(tried) and (found := errors(tried)) < fewest:
                    best, fewest = tried, found
        if fewest == before:
            break
    return tuple(best)
