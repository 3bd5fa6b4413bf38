"""Images that are in both splits, saved again; and images that only share their colours."""

from pathlib import Path

from pipeline.dataset import Dataset
from tests.trainer.evaluation.report.conftest import AGAIN
from trainer.evaluation.report.duplicates import DISTANCE, find_duplicates, hashes, nearest


def test_planted_duplicates_are_found_and_nothing_else(twice: Dataset) -> None:
    found = find_duplicates(twice, most=9)
    assert found.total == len(found.shown) == len(AGAIN)
    pairs = {
        Path(twice.val.place(each.val)).stem: Path(twice.train.place(each.train)).stem
        for each in found.shown
    }
    assert pairs == {name: f"<b>{number:03d}" for name, number in AGAIN.items()}
    assert all(each.distance <= DISTANCE for each in found.shown)
    assert find_duplicates(twice, most=1).shown == found.shown[:1]


def test_the_nearest_is_that_of_a_slow_search(twice: Dataset) -> None:
    train, val = hashes(twice.train), hashes(twice.val)
    for each in nearest(train, val, most=9).shown:
        bits = [
            sum(
                (int(a) ^ int(b)).bit_count()
                for a, b in zip(row, val.hash_NB[each.val], strict=True)
            )
            for row in train.hash_NB
        ]
        assert min(bits) == bits[each.train] == each.distance
