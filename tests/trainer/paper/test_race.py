"""Who arrives first, and by how much."""

from math import inf

import pytest

from trainer.paper.race import Race, epochs_to


def test_arrival_is_between_the_middles_of_epochs() -> None:
    assert epochs_to(0.25, [0.5, 0.3, 0.2]) == pytest.approx(2.0)
    assert epochs_to(0.25, [0.5, 0.25]) == pytest.approx(1.5)
    assert epochs_to(0.25, [0.2]) == 0.5
    assert epochs_to(0.25, [0.5, 0.26]) == inf


def test_the_ratio_is_of_each_seed_and_more_where_tanh_has_not_arrived() -> None:
    assert Race.of([2, 4], [8, 8], 10) == (3, 2, 4, False)
    assert Race.of([2, 4], [inf, 8], 10) == (3.5, 2, 5, True)
    assert Race.of([2, inf], [8, 8], 10) == (None, None, None, False)
