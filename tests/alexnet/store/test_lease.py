from collections.abc import Iterator
from itertools import count

import pytest

from alexnet.store.errors import TakenError
from alexnet.store.lease import held
from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from tests.object_store import Server, environment

LEASE_S = 2.0
NUMBER = count()


@pytest.fixture
def store(store_server: Server) -> Iterator[Store]:
    with environment(store_server.environment()):
        yield Store(StoreURL(f"s3://private/lease-{next(NUMBER)}"))


def test_a_lease_is_free_again_after_its_block(store: Store) -> None:
    for _ in range(2):
        with held(store, "lease", "busy", pytest.fail, LEASE_S) as lease:
            assert lease.lost is None
            assert store.tag("lease")
    assert store.tag("lease") is None


def test_while_its_holder_lives_nobody_else_gets_it(store: Store) -> None:
    said: list[str] = []
    with held(store, "lease", "run a is busy", pytest.fail, LEASE_S) as lease:
        with (
            pytest.raises(TakenError, match=r"run a is busy \(process \d+ on "),
            held(store, "lease", "run a is busy", said.append, LEASE_S),
        ):
            pytest.fail("two hold it")
        assert lease.lost is None
    assert "waiting 2 s for a sign of life" in said[0]


@pytest.mark.parametrize("left", [b"", b"{}", b'{"process": "1", "host": "x"}', b"\xff"])
def test_what_a_dead_holder_left_is_taken_over(store: Store, left: bytes) -> None:
    store.write("lease", left)
    said: list[str] = []
    with held(store, "lease", "busy", said.append, LEASE_S) as lease:
        assert lease.lost is None
    assert len(said) == 1


def test_a_holder_whose_lease_was_taken_learns_of_it_and_leaves_it_alone(store: Store) -> None:
    with held(store, "lease", "busy", pytest.fail, LEASE_S) as lease:
        store.write("lease", b"another's")
        while lease.lost is None:
            pass
        assert "another process has taken over" in lease.lost
    assert store.read("lease") == b"another's"
