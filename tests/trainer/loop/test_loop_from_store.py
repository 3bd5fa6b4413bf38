"""Whole runs on a dataset in object storage: bit for bit those on one on disk."""

from pathlib import Path

import pytest

from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from tests import object_store
from tests.conftest import ROOT
from tests.trainer.loop.test_loop import a_run, assert_same_bits, train
from trainer.run import find_run

DATA = ROOT / "tests/earlier/dataset"
URL = StoreURL("s3://private/datasets/earlier")


@pytest.mark.parametrize("size", ["1GB", "0"])
def test_weights_are_those_from_disk_also_resumed(
    tmp_path: Path, store_server: object_store.Server, size: str
) -> None:
    from_disk = a_run(DATA, tmp_path, "disk")
    train(from_disk)
    cache = {"ALEXNET_CACHE": str(tmp_path / "cache"), "ALEXNET_CACHE_SIZE": size}
    with object_store.environment(store_server.environment() | cache):
        for path in DATA.rglob("*"):
            if path.is_file():
                Store(URL).write(str(path.relative_to(DATA)), path)
        run = a_run(URL, tmp_path, "store")
        assert not train(run, stop=4).finished
        run = find_run(tmp_path, "store")
        assert (run.data, run.dataset) == (URL, from_disk.dataset)
        assert train(run).finished
    assert_same_bits(run, from_disk)
