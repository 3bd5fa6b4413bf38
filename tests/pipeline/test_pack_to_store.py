"""Packing below a URL: the same bytes as to disk, whole or not at all, by one process at a time."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alexnet.store.errors import StoreError, TakenError
from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from pipeline.destination import LOCK, MANIFEST, RECORDS, open_destination
from pipeline.manifest import DatasetError
from pipeline.shard import ShardPlan, pack_shard
from pipeline.sources.folder import folder_source
from tests import object_store
from tests.conftest import ROOT

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _store(store_server: object_store.Server, tmp_path: Path) -> Iterator[None]:
    variables = store_server.environment() | {"ALEXNET_CACHE": str(tmp_path / "cache")}
    with object_store.environment(variables):
        yield


def objects(url: StoreURL) -> dict[str, bytes]:
    store = Store(url)
    return {name: store.read(name) for name in store.names()}


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_the_objects_are_the_files_of_packing_to_disk(
    photographs: Path, dataset: Path, run: Run
) -> None:
    url = StoreURL("s3://private/packed/whole")
    Store(url).write("train/00007.tar", b"of a larger source")
    done = run("pipeline", "pack", photographs, url, "--size", 128)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{url}: 108 training and 12 validation images")
    assert objects(url) == files(dataset)
    again = run("pipeline", "pack", photographs, url, "--size", 128)
    assert again.returncode == 2
    assert again.stderr.endswith(
        f"{url}: there is a dataset already; remove it, or name another URL\n"
    )
    assert objects(url) == files(dataset)


def test_a_shard_whose_record_agrees_is_kept(photographs: Path) -> None:
    url, source = StoreURL("s3://private/packed/kept"), folder_source(photographs, 0.1, {})
    plan, store = ShardPlan("train", 0, source.splits["train"][:9], 64), Store(url)
    first, _ = pack_shard(source.reader, plan, url)
    tag = store.tag("train/00000.tar")
    assert pack_shard(source.reader, plan, url)[0].file == first.file
    assert store.tag("train/00000.tar") == tag
    store.write("train/00000.tar", b"cut")
    assert pack_shard(source.reader, plan, url)[0].file == first.file
    assert store.size("train/00000.tar") == first.file.size
    other = ShardPlan("train", 0, source.splits["train"][1:9], 64)
    assert pack_shard(source.reader, other, url)[0].file != first.file


@pytest.mark.slow
def test_killed_and_run_again_it_goes_on(photographs: Path, dataset: Path, run: Run) -> None:
    url = StoreURL("s3://private/packed/killed")
    store, command = Store(url), ("pipeline", "pack", photographs, url, "--size", 128)
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)], cwd=ROOT, start_new_session=True,
        stdout=-3, stderr=-3,
    )  # fmt: skip
    while process.poll() is None and not store.names(f"{RECORDS}/") > [LOCK]:
        time.sleep(0.05)
    os.killpg(process.pid, 9)
    process.wait()
    assert not store.size(MANIFEST)
    store.remove([LOCK])  # which would be waited for
    done = run(*command)
    assert done.returncode == 0, done.stderr
    assert objects(url) == files(dataset)


@pytest.mark.slow
def test_of_two_packers_one_is_told() -> None:
    url = StoreURL("s3://private/packed/two")
    with open_destination(url).alone(""), pytest.raises(TakenError, match=r"busy.*process"):
        open_destination(url).alone("busy").__enter__()
    with open_destination(url).alone(""):
        pass


def test_a_dataset_that_is_there_stays() -> None:
    """Also where it was not when packing began."""
    url = StoreURL("s3://private/packed/late")
    late = open_destination(url)
    with late.alone(""):
        Store(url).create(MANIFEST, b"of another")
        with pytest.raises(DatasetError, match="another dataset was packed there"):
            late.end(b"ours")
    assert Store(url).read(MANIFEST) == b"of another"


def test_who_may_not_write_is_told(photographs: Path, store_server: object_store.Server) -> None:
    url, source = StoreURL("s3://private/packed/denied"), folder_source(photographs, 0.1, {})
    plan = ShardPlan("train", 0, source.splits["train"][:2], 64)
    with (
        object_store.environment(store_server.environment("reader")),
        pytest.raises(StoreError, match=rf"{url}/.*access is denied"),
    ):
        pack_shard(source.reader, plan, url)
