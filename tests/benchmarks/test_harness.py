"""Ratios of a benchmark, by hand."""

from dataclasses import asdict

from tests.benchmarks.harness import (
    Goal,
    Measurement,
    Spread,
    measure,
    rate_table,
    ratio_table,
    ratios,
)


def test_ratios_are_within_a_round_and_a_goal_is_held_to_their_median() -> None:
    rounds = [
        {"ours": Measurement(100, 1.0, 1.0), "peer": Measurement(50, 1.0, 1.0)},
        {"ours": Measurement(100, 1.0, 2.0), "peer": Measurement(100, 1.0, 4.0)},
        {"ours": Measurement(90, 2.0, 1.0), "peer": Measurement(90, 1.0, 1.0)},
    ]
    measurements = measure(3, lambda number: iter(rounds[number].items()))
    assert measurements["ours"] == [each["ours"] for each in rounds]
    goals = [
        Goal("ours", "peer", 2.0),
        Goal("ours", "absent", 1.0),
        Goal("ours", "peer", None, "per_s", "images per second"),
    ]
    per_core_s, per_s = ratios(goals, measurements)
    assert asdict(per_core_s.ratio) == {"median": 2.0, "low": 1.0, "high": 2.0}
    assert per_core_s.met
    assert per_s.ratio == Spread(1.0, 0.5, 2.0)
    assert per_s.met is None
    text = ratio_table("images", [per_core_s, per_s])
    assert "| ours : peer | 2.00 | 1.00 to 2.00 | 2 | met |" in text
    assert "| images per second, ours : peer | 1.00 | 0.50 to 2.00 |  |  |" in text
    assert "| ours | 100.0 | 90.0 | 50.0 to 100.0 |" in rate_table("images", measurements)
