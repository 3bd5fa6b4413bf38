"""Sources in object storage are those on disk, read where they lie."""

import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from pipeline.manifest import DatasetError
from pipeline.shard import ShardPlan, pack_shard
from pipeline.sources import open_source
from pipeline.sources.source import Source
from tests import object_store
from tests.conftest import ROOT

WNIDS = ("n00015388", "n02084071")


@pytest.fixture(autouse=True)
def _store(store_server: object_store.Server) -> Iterator[None]:
    with object_store.environment(store_server.environment()):
        yield


@pytest.fixture
def upload() -> Callable[[Path], StoreURL]:
    def put(folder: Path) -> StoreURL:
        url = StoreURL(f"s3://private/source-{uuid4().hex[:8]}")
        for path in folder.rglob("*"):
            if path.is_file():
                Store(url).write(os.fspath(path.relative_to(folder)), path)
        return url

    return put


def opened(place: object) -> Source:
    return open_source(str(place), 0.1, None)


def assert_same(remote: Source, local: Source, url: StoreURL, folder: Path) -> None:
    assert remote.classes == local.classes
    reader = pickle.loads(pickle.dumps(remote.reader))  # as on its way to a task
    for split, samples in local.splits.items():
        for ours, theirs in zip(remote.splits[split], samples, strict=True):
            assert ours[:2] == theirs[:2]
            assert ours.location == theirs.location.replace(str(folder), url)
            assert reader.read(ours.location) == local.reader.read(theirs.location)


def test_photographs_in_class_folders(
    photographs: Path, upload: Callable[[Path], StoreURL]
) -> None:
    url = upload(photographs)
    assert_same(opened(url), opened(photographs), url, photographs)


def test_shards(upload: Callable[[Path], StoreURL]) -> None:
    folder = ROOT / "tests/earlier/dataset"
    url = upload(folder)
    assert_same(opened(url), opened(folder), url, folder)


@pytest.mark.parametrize("name", ["fall11_whole.tar", "", "of one"])
def test_tars_of_synsets(
    name: str, tmp_path: Path, tar: Callable, upload: Callable[[Path], StoreURL]
) -> None:
    tars = {
        f"{wnid}.tar": tar({f"{wnid}_{n}.JPEG": os.urandom(5000 * n) for n in range(2, 9)})
        for wnid in WNIDS
    }
    files = tars if name == "of one" else {"fall11_whole.tar": tar(tars)}
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    url, inner = upload(tmp_path), "" if name == "of one" else name
    found = opened(url / inner if inner else url)
    assert_same(found, opened(tmp_path / inner), url, tmp_path)


def test_labels_longer_than_what_follows_a_header(
    tmp_path: Path, tar: Callable, upload: Callable[[Path], StoreURL], jpeg: bytes
) -> None:
    files = {}
    for n in range(8):
        files |= {f"{n}.jpg": jpeg, f"{n}.json": b'{"label": %d%s}' % (n % 2, b" " * 9000)}
    (tmp_path / "0.tar").write_bytes(tar(files))
    url = upload(tmp_path)
    assert_same(opened(url), opened(tmp_path), url, tmp_path)


def test_packed_shards_are_the_same(
    photographs: Path, tmp_path: Path, upload: Callable[[Path], StoreURL]
) -> None:
    packed = []
    for source, folder in ((opened(upload(photographs)), "a"), (opened(photographs), "b")):
        for name in ("train", ".pack"):
            (tmp_path / folder / name).mkdir(parents=True)
        plan = ShardPlan("train", 0, source.splits["train"][:50], 64)
        packed.append(pack_shard(source.reader, plan, tmp_path / folder)[0].file.sha256)
    assert packed[0] == packed[1]


def test_what_is_wrong_with_it_names_the_url(
    tmp_path: Path, tar: Callable, upload: Callable[[Path], StoreURL]
) -> None:
    with pytest.raises(DatasetError, match=r"s3://private/nowhere: there is nothing below"):
        opened("s3://private/nowhere")
    with pytest.raises(DatasetError, match=r"s3://private/none.tar: there is no such object"):
        opened("s3://private/none.tar")
    (tmp_path / "0.tar").write_bytes(tar({"1.jpg": bytes(5000)})[:3000])
    url = upload(tmp_path)
    with pytest.raises(DatasetError, match=rf"{url}/0.tar: this is not a complete tar archive"):
        opened(url)
    (tmp_path / "0.tar").write_bytes(tar({"1.jpg": bytes(5000)}))
    url = upload(tmp_path)
    with pytest.raises(DatasetError, match=rf"^{url}/0.tar, sample 1: there is no label"):
        opened(url)
