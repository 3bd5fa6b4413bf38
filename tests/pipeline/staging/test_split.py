"""Batches from object storage are those from disk, whatever of the dataset the node has by then."""

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from alexnet.store.store import Store
from alexnet.store.url import Place, StoreURL
from pipeline.batches import Decoding, train_batches, whole_batches
from pipeline.dataset import Dataset
from pipeline.folds import write_fold
from pipeline.manifest import DatasetError
from pipeline.order import Shard
from pipeline.staging.split import StagedSplit
from pipeline.verify import damages
from tests.conftest import in_own_mounts


def batches(place: Place, start: int = 0) -> Iterator[tuple[bytes, ...]]:
    """Two epochs of training, from a position on, and the validation images."""
    dataset, alone, decoding = Dataset(place), Shard(0, 1, None), Decoding(threads=1)
    epochs = train_batches(
        dataset, alone, decoding, seed=3, epoch=0, start=start, batch=10, crop=48, epochs=2
    )
    for part in (epochs, whole_batches(dataset, "val", alone, decoding, batch=5)):
        for batch in part:
            yield tuple(np.ascontiguousarray(column.numpy()).tobytes() for column in batch)


def tars(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.glob("*/*.tar")}


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def staged(place: Place, whole: Path) -> Path:
    """The cache's folder of the dataset, once it has all shards of `whole`."""
    folder = Dataset(place).folder
    wait_until(lambda: tars(folder) == tars(whole))
    return folder


@pytest.mark.parametrize("start", [0, 37])
def test_batches_are_those_from_disk(sharded: Path, stored: StoreURL, start: int) -> None:
    from_disk = list(batches(sharded, start))
    assert list(batches(stored, start)) == from_disk, "cold"
    folder = staged(stored, sharded)
    assert list(batches(stored, start)) == from_disk, "warm"
    for name in (*tars(sharded), "mean.npy", "train/index.npy", "val/index.npy"):
        assert (folder / name).read_bytes() == (sharded / name).read_bytes()


def test_without_a_cache_every_epoch_is_read_from_the_store(
    sharded: Path,
    stored: StoreURL,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("ALEXNET_CACHE_SIZE", "0")
    with caplog.at_level(logging.WARNING):
        assert list(batches(stored)) == list(batches(sharded))
    assert not tars(Dataset(stored).folder)
    told = [record.message for record in caplog.records if "ALEXNET_CACHE_SIZE" in record.message]
    assert len(told) == 2, "once for a split"


def test_with_a_small_cache_some_shards_are_staged(
    sharded: Path, stored: StoreURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = sum((sharded / name).stat().st_size for name in tars(sharded))
    monkeypatch.setenv("ALEXNET_CACHE_SIZE", f"{sizes // 2000}K")
    assert list(batches(stored)) == list(batches(sharded))
    assert 0 < len(tars(Dataset(stored).folder)) < len(tars(sharded))


def test_what_is_staged_needs_no_store(sharded: Path, stored: StoreURL) -> None:
    dataset = Dataset(stored)
    for split in (dataset.train, dataset.val):
        list(split.read([np.arange(len(split))]))
    folder = staged(stored, sharded)
    Store(stored).remove([f"train/{path.name}" for path in (folder / "train").glob("*.tar")])
    assert list(batches(stored)) == list(batches(sharded))


def test_a_taken_batch_costs_the_store_no_more_than_some(stored: StoreURL) -> None:
    """As of `alexnet show`, which draws some images of a dataset of any size."""
    taken = []

    def parts() -> Iterator[np.ndarray]:
        for sample in range(100):
            taken.append(sample)
            yield np.array([sample])

    next(Dataset(stored).train.read(parts()))
    assert len(taken) < 10


def test_names_and_places_are_told_without_the_cache(
    sharded: Path, stored: StoreURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALEXNET_CACHE_SIZE", "0")
    split, on_disk = Dataset(stored).val, Dataset(sharded).val
    everything_N = np.arange(len(split))
    assert split.names(everything_N) == on_disk.names(everything_N)
    assert split.place(0) == on_disk.place(0).replace(str(sharded), stored)


def test_a_fold_reads_the_shards_of_the_whole(
    sharded: Path, stored: StoreURL, tmp_path: Path
) -> None:
    left_out_N = np.arange(0, 100, 7)
    from_disk = write_fold(Dataset(sharded), tmp_path / "disk", left_out_N)
    from_store = write_fold(Dataset(stored), tmp_path / "store", left_out_N)
    assert list(batches(from_store.place)) == list(batches(from_disk.place))
    assert isinstance(from_store.train, StagedSplit)
    wait_until(lambda: len(tars(Dataset(stored).folder)) > 5)


def test_verify_reads_the_store(sharded: Path, stored: StoreURL) -> None:
    assert not list(damages(Dataset(stored)))
    Store(stored).write("train/00001.tar", (sharded / "train/00002.tar").read_bytes())
    Store(stored).remove(["val/00000.tar"])
    lines = list(damages(Dataset(stored)))
    assert lines[0].startswith("train/00001.tar: the file has changed since it was packed")
    assert lines[-1] == "val/00000.tar: there is no such object"


def test_no_dataset_at_a_url() -> None:
    with pytest.raises(DatasetError, match=r"s3://private/none/manifest.json: .*alexnet pack"):
        Dataset(StoreURL("s3://private/none"))


@pytest.mark.parametrize("longer", [0, 1])
def test_a_shard_that_was_replaced_is_named(sharded: Path, stored: StoreURL, longer: int) -> None:
    data = bytearray((sharded / "train/00003.tar").read_bytes()) + bytes(longer)
    data[-20_000] ^= 1
    Store(stored).write("train/00003.tar", bytes(data))
    with pytest.raises(DatasetError, match=rf"{stored}/train/00003.tar: the shard is .*copy it"):
        wait_until(lambda: list(batches(stored)) is None)
    assert not (Dataset(stored).folder / "train/00003.tar").exists()


def test_a_bucket_emptied_meanwhile_is_named(
    stored: StoreURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALEXNET_CACHE_SIZE", "0")
    going = batches(stored)
    next(going)
    store = Store(stored)
    store.remove(store.names())
    with pytest.raises(DatasetError, match=rf"{stored}/train/.*.tar: the dataset has lost this"):
        list(going)


def test_an_index_that_is_another_is_refused(sharded: Path, stored: StoreURL) -> None:
    Store(stored).write("train/index.npy", (sharded / "val/index.npy").read_bytes())
    with pytest.raises(Exception, match=rf"{stored}/train/index.npy: the object is damaged"):
        Dataset(stored).train  # noqa: B018


def test_a_full_disk_is_told_and_the_rest_is_streamed(
    sharded: Path, stored: StoreURL, tmp_path: Path
) -> None:
    script = """
        mkdir -p "$2" && mount -t tmpfs -o size=300k tmpfs "$2"
        ALEXNET_CACHE_SIZE=1GB ALEXNET_CACHE="$2" "$1" -c '
import sys
from pathlib import Path
from alexnet.store.url import place
from tests.pipeline.staging.test_split import batches
print(list(batches(place(sys.argv[1]))) == list(batches(Path(sys.argv[2]))))
' "$3" "$4"
    """
    done = in_own_mounts(script, tmp_path / "small", stored, sharded)
    assert done.stdout == "True\n", done.stderr
    assert "No space left" in done.stderr
