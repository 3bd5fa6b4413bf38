"""Finding the share of the hardware decoder. Here on the CPU, where the share changes nothing."""

from pathlib import Path

import pytest

from pipeline.batches import Decoding
from pipeline.dataset import Dataset
from pipeline.hw_load import HW_LOADS, best_hw_load, decoding_rate, fastest
from pipeline.order import Shard


@pytest.mark.parametrize("best", HW_LOADS)
def test_the_fastest_is_taken(best: float) -> None:
    assert fastest(lambda load: -abs(load - best)) == best


def test_rates_are_measured(dataset: Path) -> None:
    opened = Dataset(dataset)
    assert decoding_rate(opened, Shard(1, 2, None), Decoding(threads=1)) > 0
    assert best_hw_load(opened, Shard(0, 1, None), threads=1) in HW_LOADS
