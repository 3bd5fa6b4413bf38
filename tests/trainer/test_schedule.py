"""The learning rate by hand."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from trainer.schedule import Cosine, Fixed, Plateau


def test_fixed_drops_at_the_quarters_as_the_author_did() -> None:
    """.01, .001587, .000252, .00004; biases .02, then .002 at half (layer-params-170.cfg)."""
    at = [Fixed().at(epoch / 90, []) for epoch in (0, 22.4, 22.5, 44.9, 45, 67.5, 89.99)]
    assert [round(0.01 * factors.weights, 7) for factors in at] == [
        0.01, 0.01, 0.001587, 0.001587, 0.000252, 0.00004, 0.00004,
    ]  # fmt: skip
    assert [round(0.02 * factors.biases, 7) for factors in at] == [
        0.02, 0.02, 0.02, 0.02, 0.002, 0.002, 0.002,
    ]  # fmt: skip


def test_plateau_drops_when_the_error_stops_falling_three_times_at_most() -> None:
    schedule = Plateau(patience=2)
    errors = [0.9, 0.8, 0.8, 0.79999, 0.5, 0.51, 0.52, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4, 0.4]
    dropped = [schedule.dropped(errors[:epochs]) for epochs in range(len(errors) + 1)]
    #                  .9 .8 .8 .8 .5 .51 .52 .4 ...
    assert dropped == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 3]
    assert schedule.at(0.9, errors).weights == pytest.approx(0.001)
    assert schedule.at(0.9, errors).biases == pytest.approx(0.1)


@given(st.lists(st.floats(0, 1), max_size=60), st.integers(1, 6))
def test_plateau_never_goes_back_and_waits_between_drops(errors: list, patience: int) -> None:
    schedule = Plateau(patience=patience)
    dropped = [schedule.dropped(errors[:epochs]) for epochs in range(len(errors) + 1)]
    drops = [epoch for epoch in range(1, len(dropped)) if dropped[epoch] > dropped[epoch - 1]]
    assert dropped == sorted(dropped)
    assert dropped[-1] == len(drops) <= 3
    assert all(later - sooner >= patience for sooner, later in pairwise(drops))


def test_an_error_that_keeps_falling_never_drops() -> None:
    assert Plateau().dropped([0.9 * 0.99**epoch for epoch in range(90)]) == 0


def test_cosine_goes_from_one_to_a_thousandth() -> None:
    factors = [Cosine().at(part / 100, []).weights for part in range(101)]
    assert factors == sorted(factors, reverse=True)
    assert (factors[0], factors[50], factors[100]) == (1, pytest.approx(0.5), 0.001)


@pytest.mark.parametrize(
    ("drops", "text"),
    [
        (((0.5, 0.1), (0.2, 0.01)), "these must rise, between 0 and 1"),
        (((0.0, 0.1),), "these must rise, between 0 and 1"),
        (((0.5, 0.0),), "must be above 0"),
    ],
)
def test_drops_that_make_no_sense(drops: tuple, text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Fixed(drops=drops)
