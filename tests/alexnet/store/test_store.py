import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.store import store as module
from alexnet.store.errors import MissingError, StoreError, TakenError, UnreachableError
from alexnet.store.store import PART_BYTES, Store
from alexnet.store.url import StoreURL
from tests.object_store import Server, environment

NUMBER = count()


@pytest.fixture
def store(store_server: Server) -> Iterator[Store]:
    with environment(store_server.environment()):
        yield Store(StoreURL(f"s3://private/store-{next(NUMBER)}"))


def test_an_object_is_read_as_it_was_written(store: Store, tmp_path: Path) -> None:
    content = os.urandom(3 * PART_BYTES // 2)
    (tmp_path / "file").write_bytes(content)
    store.write("a/bytes", content)
    store.write("a/file", tmp_path / "file")
    store.write("empty", b"")
    store.fetch("a/file", tmp_path / "back", hashlib.sha256(content).hexdigest())
    store.fetch("empty", tmp_path / "empty")
    assert store.read("a/bytes") == content
    assert (tmp_path / "back").read_bytes() == content
    assert (tmp_path / "empty").read_bytes() == b""
    assert store.names() == ["a/bytes", "a/file", "empty"]
    assert store.names("a") == ["a/bytes", "a/file"]


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 999), st.integers(1, 99)), min_size=1, max_size=30))
def test_ranges_are_those_of_the_object(store_server: Server, places: list) -> None:
    content = bytes(number % 251 for number in range(1_100))
    with environment(store_server.environment()):
        store = Store(StoreURL("s3://private/ranges"))
        store.write("x", content)
        starts, ends = [start for start, _ in places], [start + size for start, size in places]
        found = store.ranges("x", starts, ends)
    assert [*map(bytes, found)] == [content[a:b] for a, b in zip(starts, ends, strict=True)]


def test_a_range_beyond_the_end_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PATIENCE_S", 0.5)
    store.write("x", b"0123456789")
    with pytest.raises(StoreError):
        Store(store.url, patience_s=0.5).ranges("x", [5], [20])


def test_a_damaged_object_leaves_no_file(store: Store, tmp_path: Path) -> None:
    store.write("x", b"damaged")
    with pytest.raises(StoreError, match=r"/x: the object is damaged"):
        store.fetch("x", tmp_path / "x", hashlib.sha256(b"whole").hexdigest())
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=f"{store.url}/x: there is no such object"):
        store.read("x")
    with pytest.raises(MissingError, match=f"{store.url}/x: there is no such object"):
        store.fetch("x", tmp_path / "x")
    assert store.tag("x") is None
    store.remove(["x"])
    assert store.names() == []


def test_a_new_object_is_made_once(store: Store) -> None:
    tag = store.create("x", b"first")
    assert store.tag("x") == tag
    assert store.create("x", b"first") == tag  # as when the answer to the first try was lost
    with pytest.raises(TakenError):
        store.create("x", b"second")
    assert store.read("x") == b"first"


def test_an_object_is_replaced_by_who_has_seen_it(store: Store) -> None:
    first = store.create("x", b"first")
    second = store.replace("x", b"second", first)
    with pytest.raises(TakenError):
        store.replace("x", b"third", first)
    assert store.read_tagged("x") == (b"second", second)
    store.remove(["x"])
    with pytest.raises(TakenError):
        store.replace("x", b"third", second)


def test_of_many_that_replace_at_once_each_round_has_one_winner(store: Store) -> None:
    tag = store.create("x", b"0")

    def attempt(number: int) -> bool:
        try:
            store.replace("x", f"{tag} by {number}".encode(), tag)
        except TakenError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert sum(pool.map(attempt, range(8))) == 1
            tag = store.read_tagged("x").tag


def test_who_may_only_read_is_told(store_server: Server) -> None:
    denied = r"s3://private/y: access is denied \(AccessDenied\)"
    with (
        environment(store_server.environment("reader")),
        pytest.raises(StoreError, match=denied),
    ):
        Store(StoreURL("s3://private")).write("y", b"")


def test_a_wrong_key_is_told(store_server: Server) -> None:
    with environment(store_server.environment("nobody")):
        store = Store(StoreURL("s3://private"))
        for ask in (store.names, lambda: store.read("x"), lambda: store.write("x", b"")):
            with pytest.raises(StoreError, match=r"access is denied \(InvalidAccessKeyId\)"):
                ask()
        with pytest.raises(StoreError, match="access is denied"):
            store.tag("x")


def test_a_bucket_that_is_not_there_is_told(store_server: Server) -> None:
    with (
        environment(store_server.environment()),
        pytest.raises(StoreError, match="there is no bucket nowhere"),
    ):
        Store(StoreURL("s3://nowhere/a")).read("x")


def test_a_store_that_never_answers_is_given_up(
    store_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PATIENCE_S", 1.0)
    nowhere = store_server.environment(endpoint="http://127.0.0.1:1")
    refused = r"s3://b/x: the store did not answer .*AWS_ENDPOINT_URL"
    with environment(nowhere), pytest.raises(UnreachableError, match=refused):
        Store(StoreURL("s3://b")).read("x")
