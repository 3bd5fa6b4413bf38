"""What a store that fails now and then costs: time, and nothing else."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from alexnet.store.errors import TakenError, UnreachableError
from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from tests.faulty_store import Faults, faulty
from tests.object_store import Server, environment

NUMBER = count()


@contextmanager
def store_with(server: Server, faults: Faults) -> Iterator[Store]:
    with (
        faulty(server.port, faults) as endpoint,
        environment(server.environment(endpoint=endpoint)),
    ):
        yield Store(StoreURL(f"s3://private/faults-{next(NUMBER)}"))


@pytest.mark.parametrize("fault", ["dropped", "unanswered", "failed", "slowed", "cut"])
def test_what_fails_now_and_then_is_asked_again(
    store_server: Server, tmp_path: Path, fault: str
) -> None:
    faults = Faults(**{fault: 0.2})
    content = os.urandom(100_000)
    with store_with(store_server, faults) as store:
        for number in range(12):
            store.write(f"{number}", content)
            store.fetch(f"{number}", tmp_path / f"{number}", hashlib.sha256(content).hexdigest())
            (part,) = store.ranges(f"{number}", [100], [50_000])
            assert bytes(part) == content[100:50_000]
        assert len(store.names()) == 12
    assert faults.counts[fault] > 0


@pytest.mark.parametrize("fault", ["dropped", "failed", "slowed"])
def test_writers_that_count_together_lose_no_number(store_server: Server, fault: str) -> None:
    """Each adds to one object by conditional puts. Where answers were lost some would be there
    twice: a write that was replaced before it was seen cannot be told from one never made."""
    faults = Faults(**{fault: 0.2})
    with store_with(store_server, faults) as store:
        store.create("x", json.dumps([]).encode())

        def add(writer: int) -> None:
            for number in range(5):
                while True:
                    found = store.read_tagged("x")
                    said = [*json.loads(found.data), [writer, number]]
                    try:
                        store.replace("x", json.dumps(said).encode(), found.tag)
                    except TakenError:
                        continue
                    break

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(add, range(3)))
        said = json.loads(store.read("x"))
    assert sorted(said) == [[writer, number] for writer in range(3) for number in range(5)]
    for writer in range(3):
        assert [number for who, number in said if who == writer] == [*range(5)]


def test_a_store_that_comes_back_is_waited_for(store_server: Server) -> None:
    faults = Faults()
    with store_with(store_server, faults) as store:
        store.write("x", b"1")
        faults.away_until = time.monotonic() + 5
        assert store.read("x") == b"1"
        assert faults.counts["away"] > 0


def test_a_store_that_stays_away_is_given_up(
    store_server: Server,
) -> None:
    faults = Faults()
    with store_with(store_server, faults) as store:
        store.write("x", b"1")
        short = Store(store.url, patience_s=1)
        assert short.read("x") == b"1"
        faults.away_until = time.monotonic() + 1000
        with pytest.raises(UnreachableError, match="the store did not answer as it should for"):
            short.read("x")


def test_what_is_slow_is_no_fault(store_server: Server) -> None:
    with store_with(store_server, Faults(latency_s=0.3)) as store:
        store.write("x", b"1")
        assert store.read("x") == b"1"
