"""Finding the share of the hardware decoder. Here on the CPU, where the share changes nothing."""

from pathlib import Path

import pytest

from pipeline.batches import Decoding
from pipeline.dataset import Dataset
from pipeline.hw_load import HW_LOADS, decoding_rate, fastest
from pipeline.order import Shard


@pytest.mark.parametrize("best", HW_LOADS)
def test_the_fastest_is_taken(best: float) -> None:
    assert fastest(lambda load: -abs(load - best)) == best


def test_images_are_left_to_measure_after_warm_up(dataset: Path) -> None:
    """Also in few validation images, and for a worker among others."""
    assert decoding_rate(Dataset(dataset), Shard(1, 2, None), Decoding(threads=1)) > 0
