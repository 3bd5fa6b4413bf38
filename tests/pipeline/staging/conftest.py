"""A dataset of several shards, on disk and in a store that runs, and a cache of its own for each
test."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from alexnet import atomic
from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from pipeline.destination import MANIFEST, RECORDS
from pipeline.manifest import Manifest, SplitManifest, SplitName
from pipeline.pack import SHARD_SAMPLES
from pipeline.shard import ShardPlan, pack_shard
from pipeline.sources.folder import folder_source
from pipeline.statistics import Sums
from tests import object_store

SIZE, SAMPLES = 64, 12
assert SAMPLES < SHARD_SAMPLES


@pytest.fixture(scope="session")
def sharded(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`photographs` in shards of a few images, as `pack` would write them."""
    folder, source = tmp_path_factory.mktemp("sharded"), folder_source(photographs, 0.1, {})
    splits: dict[SplitName, SplitManifest] = {}
    sums = Sums.zero(SIZE)
    for split, samples in source.splits.items():
        for name in (split, RECORDS):
            (folder / name).mkdir(exist_ok=True)
        packed = []
        for number, start in enumerate(range(0, len(samples), SAMPLES)):
            plan = ShardPlan(split, number, samples[start : start + SAMPLES], SIZE)
            shard, of_shard = pack_shard(source.reader, plan, folder)
            packed.append(shard)
            if split == "train":
                sums.merge(of_shard)
        index = np.concatenate([shard.index for shard in packed])
        splits[split] = SplitManifest(
            samples=len(index),
            shards=tuple(shard.file for shard in packed),
            index_sha256=atomic.write_array(folder / split / "index.npy", index),
        )
    manifest = Manifest(
        size=SIZE, filter="", jpeg_quality=None, classes=source.classes,
        source=hashlib.sha256(b"").hexdigest(), colour=sums.colour(),
        mean_sha256=atomic.write_array(folder / "mean.npy", sums.mean_image()), **splits,
    )  # fmt: skip
    (folder / MANIFEST).write_text(manifest.model_dump_json())
    return folder


@pytest.fixture(autouse=True)
def _store(store_server: object_store.Server) -> Iterator[None]:
    with object_store.environment(store_server.environment()):
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("ALEXNET_CACHE", str(folder))
    return folder


@pytest.fixture
def upload() -> Callable[[Path], StoreURL]:
    """Put a folder below a URL of its own."""

    def put(folder: Path) -> StoreURL:
        url = StoreURL("s3://private") / f"staging-{uuid4().hex[:8]}"
        store = Store(url)
        for path in folder.rglob("*"):
            if path.is_file():
                store.write(os.fspath(path.relative_to(folder)), path)
        return url

    return put


@pytest.fixture
def stored(sharded: Path, upload: Callable[[Path], StoreURL]) -> StoreURL:
    """The dataset, in the store."""
    return upload(sharded)
