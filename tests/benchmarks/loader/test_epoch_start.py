"""The measurement of epoch starts, on small made-up indexes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.batches import Decoding, train_batches
from pipeline.dataset import Dataset
from pipeline.order import Shard
from tests.benchmarks.loader.epoch_start import make_up


def test_a_made_up_dataset_is_one(tmp_path: Path) -> None:
    make_up(tmp_path, 300)
    seen = [
        sample
        for batch in train_batches(
            Dataset(tmp_path), Shard(0, 1, None), Decoding(threads=1),
            seed=0, epoch=0, start=0, batch=128, crop=56,
        )
        for sample in batch.sample_N[batch.real_N].tolist()
    ]  # fmt: skip
    assert sorted(seen) == list(range(300))


@pytest.mark.slow
def test_the_command_measures_each_size(run: Callable) -> None:
    done = run("tests.benchmarks.loader.epoch_start", 500, 2000)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert [result["samples"] for result in results] == [500, 2000]
    assert all(len(result["start_s"]) == 3 and result["open_s"] > 0 for result in results)
