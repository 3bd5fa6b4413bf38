"""A dataset in a store that runs, and a cache of its own for each test."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from tests import object_store


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
def stored(dataset: Path, upload: Callable[[Path], StoreURL]) -> StoreURL:
    """The dataset of three classes, in the store."""
    return upload(dataset)
