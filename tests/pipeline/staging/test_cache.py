"""The node's cache: one limit for all, and nothing goes that a process uses."""

import subprocess
import sys
from pathlib import Path

import pytest

from alexnet.command import UserError
from pipeline.staging.cache import Cache, FullError
from tests.conftest import ROOT


def fill(cache: Cache, name: str, size: int) -> None:
    with cache.incoming(cache.folder / name, size) as file:
        assert file
        file.write(bytes(size))


@pytest.fixture(autouse=True)
def _limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXNET_CACHE_SIZE", "10KB")


def test_the_longest_unused_goes_first(cache: Path) -> None:
    for digest in ("old", "new"):
        fill(Cache(digest), "train/0.tar", 4000)
    Cache("old")  # which makes it the newer one
    fill(Cache("another"), "train/0.tar", 4000)
    assert {path.parts[-3] for path in cache.rglob("*.tar")} == {"old", "another"}


def test_no_more_goes_than_must(cache: Path) -> None:
    old = Cache("old")
    for number in range(4):
        fill(old, f"train/{number}.tar", 2000)
    del old
    fill(Cache("new"), "train/0.tar", 3000)
    assert len(list(cache.rglob("datasets/old/train/*.tar"))) == 3


def test_nothing_goes_that_is_used(cache: Path) -> None:
    using = Cache("used")
    fill(using, "train/0.tar", 6000)
    with pytest.raises(FullError, match="ALEXNET_CACHE_SIZE"):
        fill(Cache("other"), "train/0.tar", 6000)
    del using
    fill(Cache("other"), "train/0.tar", 6000)
    assert not list(cache.rglob("datasets/used"))


def test_nothing_goes_that_another_process_uses() -> None:
    script = (
        "import sys; from pipeline.staging.cache import Cache; from tests.pipeline.staging."
        "test_cache import fill; it = Cache('used'); fill(it, 'train/0.tar', 6000); print();"
        "sys.stdout.flush(); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=-1, stdout=-1, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(FullError):
            fill(Cache("other"), "train/0.tar", 6000)
        process.kill()
    fill(Cache("other"), "train/0.tar", 6000)


def test_one_process_at_a_time_fills_a_file() -> None:
    first, second = Cache("same"), Cache("same")
    path = first.folder / "train/0.tar"
    with first.incoming(path, 100) as file:
        assert file
        with second.incoming(path, 100) as other:
            assert other is None
        assert not path.exists()
        file.write(bytes(100))
    with second.incoming(path, 100) as other:
        assert other is None, "it is there"


def test_what_an_error_interrupts_is_not_there_and_takes_no_room() -> None:
    cache = Cache("same")
    for _ in range(3):
        with pytest.raises(RuntimeError), cache.incoming(cache.folder / "train/0.tar", 6000):
            raise RuntimeError
    assert not (cache.folder / "train/0.tar").exists()
    fill(cache, "train/1.tar", 6000)


@pytest.mark.parametrize("size", ["much", "-1", "10 apples"])
def test_a_size_that_is_none(size: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALEXNET_CACHE_SIZE", size)
    with pytest.raises(UserError, match=f"ALEXNET_CACHE_SIZE is {size}"):
        Cache("any")


def test_a_cache_that_cannot_be_written(cache: Path) -> None:
    cache.write_bytes(b"")
    with pytest.raises(UserError, match="set ALEXNET_CACHE to a folder"):
        Cache("any")
