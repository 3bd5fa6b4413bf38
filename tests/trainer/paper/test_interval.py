"""Student's interval."""

from math import inf

import pytest
from scipy import stats

from trainer.paper.interval import Interval


def test_it_is_that_of_a_paired_t_test() -> None:
    without, own = [40.1, 41.0, 39.2, 40.7, 41.9], [38.0, 39.9, 38.8, 39.1, 40.2]
    found = Interval.of([a - b for a, b in zip(without, own, strict=True)])
    expected = stats.ttest_rel(without, own)
    low, high = expected.confidence_interval(0.95)
    assert found == pytest.approx((1.38, low, high))
    assert found.excludes_zero == (expected.pvalue < 0.05)


def test_of_three_by_hand() -> None:
    """t is 4.303 with two degrees of freedom, the standard error 1 / √3."""
    found = Interval.of([0, 1, 2])
    assert found == pytest.approx((1, 1 - 4.3027 / 3**0.5, 1 + 4.3027 / 3**0.5), abs=1e-4)
    assert not found.excludes_zero


def test_one_value_says_nothing_and_is_json() -> None:
    found = Interval.of([3.0])
    assert found == (3.0, -inf, inf)
    assert not found.excludes_zero
    assert found.finite == {"mean": 3.0, "low": None, "high": None}
