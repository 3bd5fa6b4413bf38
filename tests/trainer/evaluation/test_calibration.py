"""Temperatures and thresholds, against slow searches and against answers of a known honesty."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from alexnet.calibration import COLDEST, HOTTEST
from trainer.evaluation.calibration import (
    Asked,
    answers,
    calibrate,
    find_threshold,
    fit_temperature,
)
from trainer.evaluation.scores import calibration_error, likelihood_loss, ranks
from trainer.evaluation.table import _fit

IMAGES = 6000


def honest(views: int, heat: float = 1.0) -> Asked:
    """Logits `heat` times too large, of answers that are right as often as they say: each label is
    drawn by the mean of the views' probabilities."""
    generator = torch.Generator().manual_seed(0)
    shared_NK = 2 * torch.randn(IMAGES, 5, generator=generator)
    logit_VNK = shared_NK + torch.randn(views, IMAGES, 5, generator=generator)
    probability_NK = logit_VNK.softmax(dim=2).mean(dim=0)
    label_N = probability_NK.multinomial(1, generator=generator)[:, 0]
    return Asked(heat * logit_VNK, label_N)


@pytest.mark.parametrize("views", [1, 10])
@pytest.mark.parametrize("heat", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found(views: int, heat: float) -> None:
    asked = honest(views, heat)
    found = fit_temperature(asked)
    assert found == pytest.approx(heat, rel=0.05)
    losses = [
        likelihood_loss(answers(asked, t), asked.label_N)
        for t in (found, 0.97 * found, found / 0.97)
    ]
    assert losses[0] == min(losses)


@pytest.mark.parametrize("views", [1, 10])
def test_what_is_said_of_other_images(views: int) -> None:
    """Halves are judged by each other; the errors that are kept are those of both together."""
    asked = honest(views, heat=3.0)
    fit = calibrate("any", asked, "d" * 64, target=0.9)
    assert fit.kept.temperature == fit_temperature(asked)
    assert (fit.kept.views, fit.kept.pictures, fit.kept.dataset) == (views, IMAGES, "d" * 64)
    assert fit.kept.before.ece > 0.1
    assert fit.kept.after.ece < 0.03
    assert fit.kept.after.nll < fit.kept.before.nll
    for start, half in zip((1, 0), fit.halves, strict=True):
        fitted, judge = asked.part(1 - start), asked.part(start)
        assert torch.equal(judge.label_N, asked.label_N[start::2])
        assert half.temperature == fit_temperature(fitted)
        after_NK = answers(judge, half.temperature)
        assert half.after.ece == calibration_error(after_NK, judge.label_N)
        assert half.after.nll == likelihood_loss(after_NK, judge.label_N)
        assert half.before.ece == calibration_error(answers(judge, 1.0), judge.label_N)
        assert half.threshold
        assert half.threshold.right / half.threshold.answered == pytest.approx(0.9, abs=0.03)
    mean_nll = sum(half.pictures * half.after.nll for half in fit.halves) / IMAGES
    assert fit.kept.after.nll == pytest.approx(mean_nll)


def test_answers_that_are_never_wrong_end_at_the_limit() -> None:
    logit_VNK = torch.eye(3)[None]
    never_wrong = Asked(logit_VNK, torch.arange(3))
    never_right = Asked(logit_VNK, torch.tensor([1, 2, 0]))
    assert fit_temperature(never_wrong) == pytest.approx(COLDEST, rel=0.2)
    assert fit_temperature(never_right) == pytest.approx(HOTTEST, rel=0.01)


def test_by_one_view_no_label_changes_its_rank() -> None:
    asked = honest(views=1)
    before_N = ranks(answers(asked, 1.0), asked.label_N)
    for temperature in (0.3, 1.7, 5.0):
        assert torch.equal(ranks(answers(asked, temperature), asked.label_N), before_N)


@given(
    st.lists(st.tuples(st.floats(0.5, 1, width=32), st.booleans()), min_size=1, max_size=30),
    st.sampled_from([0.5, 0.8, 0.95, 1.0]),
)
def test_the_threshold_is_the_lowest_that_will_do(
    cases: list[tuple[float, bool]], target: float
) -> None:
    best_N = torch.tensor([best for best, _ in cases])
    probability_NK = torch.stack([best_N, 1 - best_N], dim=1)
    guess_N = probability_NK.argmax(1)
    label_N = torch.where(torch.tensor([right for _, right in cases]), guess_N, 1 - guess_N)

    def slow() -> tuple[float, int, int] | None:
        for step in range(1001):
            given = [right for best, right in cases if best >= step / 1000]
            if given and sum(given) >= target * len(given):
                return step / 1000, len(given), sum(given)
        return None

    found = find_threshold(probability_NK, label_N, target)
    assert (found and (found.min_probability, found.answered, found.right)) == slow()


def test_one_view_of_ten_is_the_centre() -> None:
    asked = honest(views=10)
    alone: Tensor = asked.by(1).logit_VNK
    assert torch.equal(alone, asked.logit_VNK[2:3])
    assert asked.by(10) is asked


def test_too_few_images_are_warned_of() -> None:
    asked = honest(1)
    few = Asked(asked.logit_VNK[:, 200:260], asked.label_N[200:260])
    fit = calibrate("any", few, "d" * 64, target=0.5)
    assert fit.kept.after.nll > fit.kept.before.nll
    told = " ".join(_fit(fit))
    assert "warning: on images that it was not fitted to, the temperature does not help" in told
    assert "answered images say little about others" in told
    assert "warning" not in " ".join(_fit(calibrate("any", honest(1, heat=3.0), "d" * 64, 0.9)))
