"""Mixtures against means written out; the search against its steps in a loop."""

import pytest
import torch
from torch import Tensor

from trainer.evaluation.ensemble import GRID, Mixture, mixed, mixtures, search_weights
from trainer.evaluation.scores import ranks


def random_answers(models: int, seed: int, images: int = 40) -> tuple[Tensor, Tensor]:
    """Models that are right a little more often than by chance, each in its own way."""
    random = torch.Generator().manual_seed(seed)
    label_N = torch.randint(0, 12, (images,), generator=random)
    logit_MNK = torch.randn(models, images, 12, generator=random)
    logit_MNK[:, torch.arange(images), label_N] += 0.7 * torch.rand(
        models, images, generator=random
    )
    return logit_MNK.softmax(2), label_N


def errors(
    probability_MNK: Tensor, label_N: Tensor, weights: tuple[float, ...], top: int = 5
) -> int:
    return int((ranks(mixed(probability_MNK, weights), label_N) >= top).sum())


def test_a_mixture_is_the_weighted_mean() -> None:
    probability_MNK, _ = random_answers(3, seed=0)
    weights = (0.5, 0.0, 0.25)
    expected = (0.5 * probability_MNK[0] + 0.25 * probability_MNK[2]) / 0.75
    torch.testing.assert_close(mixed(probability_MNK, weights), expected)
    torch.testing.assert_close(mixed(probability_MNK, (1, 1, 1)), probability_MNK.mean(0))
    for model in range(3):
        one = tuple(float(n == model) for n in range(3))
        assert torch.equal(mixed(probability_MNK, one), probability_MNK[model])


@pytest.mark.parametrize("top", [1, 5])
@pytest.mark.parametrize("seed", range(5))
def test_the_search_ends_where_no_single_weight_is_better(seed: int, top: int) -> None:
    probability_MNK, label_N = random_answers(2, seed)
    found = search_weights(probability_MNK, label_N, top)
    fewest = errors(probability_MNK, label_N, found, top)
    assert fewest <= errors(probability_MNK, label_N, (0.5, 0.5), top)
    assert set(found) <= set(GRID)
    for value in GRID:
        for tried in ((value, found[1]), (found[0], value)):
            assert not any(tried) or errors(probability_MNK, label_N, tried, top) >= fewest


@pytest.mark.parametrize("models", [2, 4])
def test_the_search_takes_the_steps_of_a_loop(models: int) -> None:
    probability_MNK, label_N = random_answers(models, seed=9)
    weights = [0.5] * models
    for _ in range(5):
        for model in range(models):
            counts = []
            for value in [weights[model], *GRID]:
                tried = [*weights]
                tried[model] = value
                wrong = 0
                for sample, label in enumerate(label_N.tolist()):
                    mean = mixed(probability_MNK[:, sample : sample + 1], tried)[0]
                    wrong += label not in mean.topk(5).indices if any(tried) else 1
                counts.append(wrong)
            weights[model] = [weights[model], *GRID][counts.index(min(counts))]
    assert search_weights(probability_MNK, label_N) == tuple(weights)


def test_a_useless_model_loses_its_weight() -> None:
    _, label_N = random_answers(1, seed=3)
    right_NK = torch.nn.functional.one_hot(label_N, 12).float()
    little_better_NK, always_wrong_NK = (1 + 0.2 * right_NK) / 12.2, (1 - right_NK) / 11
    probability_MNK = torch.stack([little_better_NK, always_wrong_NK])
    assert errors(probability_MNK, label_N, (0.5, 0.5)) == len(label_N)
    found = search_weights(probability_MNK, label_N)
    assert errors(probability_MNK, label_N, found) == 0
    assert found[1] < found[0]


def test_rows_are_each_model_the_mean_and_the_search() -> None:
    probability_MNK, label_N = random_answers(2, seed=1)
    rows = mixtures(["a", "b"], probability_MNK, label_N, search=True)
    assert rows[:3] == [
        Mixture("a", (1.0, 0.0), False),
        Mixture("b", (0.0, 1.0), False),
        Mixture("2 CNNs", (1.0, 1.0), False),
    ]
    assert rows[3] == Mixture(
        "2 CNNs, weights searched", search_weights(probability_MNK, label_N), True
    )
    assert mixtures(["a"], probability_MNK[:1], label_N, search=False) == [
        Mixture("a", (1.0,), False)
    ]
