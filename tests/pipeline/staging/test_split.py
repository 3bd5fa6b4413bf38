"""Batches from object storage are those from disk, whatever of the dataset the node has by then."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from alexnet.store.url import Place, StoreURL
from pipeline.batches import Decoding, train_batches, whole_batches
from pipeline.dataset import Dataset
from pipeline.order import Shard


def batches(place: Place, start: int = 0) -> Iterator[tuple[bytes, ...]]:
    """Two epochs of training, from a position on, and the validation images."""
    dataset, alone, decoding = Dataset(place), Shard(0, 1, None), Decoding(threads=1)
    epochs = train_batches(
        dataset, alone, decoding, seed=3, epoch=0, start=start, batch=10, crop=112, epochs=2
    )
    for part in (epochs, whole_batches(dataset, "val", alone, decoding, batch=5)):
        for batch in part:
            yield tuple(np.ascontiguousarray(column.numpy()).tobytes() for column in batch)


def wait_for(place: Place, names: list[str]) -> Path:
    """The cache's folder, once it has these files."""
    folder, until = Dataset(place).folder, time.monotonic() + 60
    while not all((folder / name).exists() for name in names):
        assert time.monotonic() < until
        time.sleep(0.01)
    return folder


SHARDS = ["train/00000.tar", "val/00000.tar"]


@pytest.mark.parametrize("start", [0, 37])
def test_batches_are_those_from_disk(dataset: Path, stored: StoreURL, start: int) -> None:
    from_disk = list(batches(dataset, start))
    assert list(batches(stored, start)) == from_disk, "cold"
    folder = wait_for(stored, SHARDS)
    assert list(batches(stored, start)) == from_disk, "warm"
    for path in dataset.rglob("*"):
        name = path.relative_to(dataset)
        if (folder / name).is_file():
            assert (folder / name).read_bytes() == path.read_bytes()
