"""Intervals beside scipy's, precision and recall beside a count of every image."""

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from alexnet.classes import ClassLabel
from trainer.evaluation.report.drawings import bars, matrix, matrix_png
from trainer.evaluation.report.tallies import confusion_KK, tally, wilson
from trainer.evaluation.scores import calibration_error, reliability, score


@pytest.mark.parametrize(("right", "images"), [(0, 1), (1, 1), (3, 7), (62, 100), (1000, 1000)])
def test_the_interval_is_wilsons(right: int, images: int) -> None:
    expected = binomtest(right, images).proportion_ci(0.95, method="wilson")
    assert wilson(right, images) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_tallies_and_matrix_count_every_image() -> None:
    random = torch.Generator().manual_seed(0)
    classes = [ClassLabel(id=str(n), name=f"class {n}") for n in range(5)]
    probability_NK = torch.rand(200, 5, generator=random)
    label_N = torch.randint(0, 4, (200,), generator=random)  # none of class 4
    guess_N = probability_NK.argmax(1)
    found = score(probability_NK, label_N, 1, classes)
    count_KK = confusion_KK(found)
    for label in range(5):
        for guess in range(5):
            expected = int(((label_N == label) & (guess_N == guess)).sum())
            assert count_KK[label, guess] == expected
    tallies = tally(found)
    assert [each.name for each in tallies][-1] == "class 4"
    assert tallies[-1].recall is None
    for each in tallies:
        label = int(each.name[-1])
        assert each.images == count_KK[label].sum()
        assert each.answers == count_KK[:, label].sum()
        assert each.precision == count_KK[label, label] / each.answers
    recalls = [each.recall for each in tallies[:-1]]
    assert recalls == sorted(recalls)
    drawn = matrix(count_KK, [c.name for c in classes])
    assert sum(cell.images for cell in drawn.cells) == 200
    assert matrix_png(count_KK).startswith(b"\x89PNG")
    assert len(matrix_png(np.eye(1000, dtype=int))) < 100_000

    binned = bars(reliability(probability_NK, label_N))
    assert sum(bar.images for bar in binned) == 200
    gap = sum(bar.images * abs(bar.right - bar.mean) for bar in binned) / 200
    assert gap == pytest.approx(calibration_error(probability_NK, label_N))
