"""Scores of a benchmark, by hand."""

from alexnet.benchmark import Spread
from pipeline.contender import Window
from pipeline.scores import Goal, Scores


def test_scores_are_medians_of_rounds_and_of_ratios_within_a_round() -> None:
    windows = {
        "ours": [Window(100, 1.0, 1.0), Window(100, 1.0, 2.0), Window(90, 2.0, 1.0)],
        "peer": [Window(50, 1.0, 1.0), Window(100, 1.0, 4.0), Window(90, 1.0, 1.0)],
    }
    scores = Scores.of(windows, [Goal("ours", "peer", 2.0), Goal("ours", "absent", 1.0)])
    assert scores.rates[0].images_per_s == Spread(100, 45, 100)
    assert scores.rates[0].images_per_core_s == Spread(90, 50, 100)
    (ratio,) = scores.ratios
    assert ratio.ratio == Spread(2.0, 1.0, 2.0)
    assert ratio.met
    assert "| ours : peer | 2.00 | 1.00 to 2.00 | 2 | met |" in scores.table()
