"""Models below a URL: published whole or not at all, and read from a verified copy."""

import os
import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest
import torch

import alexnet
from alexnet import checkpoint, regular, similar
from alexnet.checkpoint import ABOUT, POINTER, WEIGHTS, Accuracy, CheckpointError
from alexnet.command import UserError
from alexnet.store.errors import StoreError, UnreachableError
from alexnet.store.mirror import KEPT_S, Mirror
from alexnet.store.models import (
    add_index,
    is_published,
    keep_calibrations,
    load,
    local,
    pinned,
    read_about,
    save,
    upload,
)
from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from tests.alexnet.test_checkpoint import MEAN, about, calibration, model
from tests.conftest import in_own_mounts
from tests.object_store import Server, environment

PREFIX = count()
DEAD = Server(9, [])
"""Nothing listens there."""


@pytest.fixture
def models(
    store_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StoreURL]:
    """Where nothing is published, and an empty cache."""
    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    with environment(store_server.environment()):
        yield StoreURL(f"s3://private/models{next(PREFIX)}")


def flip(data: bytes) -> bytes:
    return data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:]


def test_a_round_trip_is_bit_identical_and_the_files_are_those_on_disk(
    models: StoreURL, tmp_path: Path
) -> None:
    saved, described = model(0), about()
    step = save(saved, MEAN, described, models)
    assert step == models / "dogs" / "00000007"
    assert pinned(models / "dogs") == pinned(step) == step
    for place in (models / "dogs", step):
        loaded = load(place)
        assert loaded.about == read_about(place)
        for name, tensor in saved.state_dict().items():
            assert torch.equal(loaded.model.state_dict()[name], tensor)
    assert alexnet.load(models / "dogs").about.name == "dogs"
    on_disk = checkpoint.save(saved, MEAN, described, tmp_path / "models")
    files = {str(p.relative_to(on_disk.parent)): p for p in on_disk.parent.rglob("*.*")}
    store = Store(models / "dogs")
    assert {name: store.read(name) for name in store.names()} == {
        name: path.read_bytes() for name, path in files.items()
    }


def test_the_pointer_follows_the_newest_and_old_steps_stay(models: StoreURL) -> None:
    assert not is_published(models / "dogs")
    save(model(0), MEAN, about(7), models)
    save(model(1), MEAN, about(9), models)
    assert is_published(models / "dogs")
    assert load(models / "dogs").about.step == 9
    assert load(models / "dogs" / "00000007").about.step == 7


def test_published_again_it_has_what_was_measured_since(models: StoreURL) -> None:
    def measured(views: int) -> checkpoint.About:
        accuracy = Accuracy(views=views, pictures=8, top1=4, top5=8)  # type: ignore[arg-type]
        return about().model_copy(update={"accuracy": (accuracy,)})

    step = save(model(0), MEAN, measured(1), models)
    keep_calibrations(step, [calibration(2.5)])
    mirror = Mirror(models / "dogs")
    copy = mirror.refresh()
    save(model(0), MEAN, measured(10), models)
    keep_calibrations(step, [calibration(0.5, views=1)])
    assert mirror.refresh() == copy
    found = checkpoint.load(copy).about
    assert [a.views for a in found.accuracy] == [1, 10]
    assert (found.temperature(1), found.temperature(10)) == (0.5, 2.5)


def test_of_several_with_other_weights_at_once_one_wins_and_the_others_are_told(
    models: StoreURL,
) -> None:
    def publish(seed: int) -> str | None:
        try:
            save(networks[seed], MEAN, about(), models)
        except CheckpointError as error:
            return str(error)
        return None

    networks = [model(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        told = [*pool.map(publish, range(4))]
    assert told.count(None) == 1
    (said,) = {line for line in told if line}
    assert said == (
        f"{models}/dogs/00000007: other weights are already published under this name and step; "
        "choose another name"
    )
    winner = networks[told.index(None)].state_dict()
    assert torch.equal(load(models / "dogs").model.state_dict()["fc8.weight"], winner["fc8.weight"])


def test_who_publishes_while_another_does_is_told(models: StoreURL, tmp_path: Path) -> None:
    slow = checkpoint.save(model(0), MEAN, about(7), tmp_path / "models")
    weights = (slow / WEIGHTS).read_bytes()
    (slow / WEIGHTS).unlink()
    os.mkfifo(slow / WEIGHTS)  # which is read in the middle
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(upload, slow, models)
        with (slow / WEIGHTS).open("wb") as pipe:
            save(model(1), MEAN, about(9), models)
            pipe.write(weights)
        with pytest.raises(StoreError, match=r"current.json: somebody else has published dogs mea"):
            publishing.result()
    assert load(models / "dogs").about.step == 9
    assert load(models / "dogs" / "00000007").about.step == 7
    save(model(0), MEAN, about(7), models)
    assert load(models / "dogs").about.step == 7


def test_a_reader_under_load_never_sees_a_mixture(models: StoreURL, tmp_path: Path) -> None:
    """Of steps that come and go, nor of one that is published again."""
    steps = [
        checkpoint.save(model(step), MEAN, about(step), tmp_path / "models") for step in range(5)
    ]
    wanted = {
        step: checkpoint.read_about(folder).weights_sha256 for step, folder in enumerate(steps)
    }
    upload(steps[0], models)
    ended = threading.Event()

    def publish() -> int:
        for published in count():
            if ended.is_set():
                return published
            upload(steps[published % len(steps)], models)
        raise AssertionError

    def read(number: int) -> int:
        mirror = mirrors[number % len(mirrors)]
        found = checkpoint.load((mirror if number % 3 else Mirror(mirror.url)).refresh()).about
        assert found.weights_sha256 == wanted[found.step]
        return found.step

    mirrors = [Mirror(models / "dogs") for _ in range(2)]
    with ThreadPoolExecutor(3) as pool:
        publishing = pool.submit(publish)
        try:
            seen = {*pool.map(read, range(200))}
        finally:
            ended.set()
        assert publishing.result() > len(steps)
    assert len(seen) > 1


def test_damaged_weights_are_refused_until_they_are_put_right(models: StoreURL) -> None:
    step = save(model(0), MEAN, about(), models)
    store = Store(step)
    good = store.read(WEIGHTS)
    store.write(WEIGHTS, flip(good))
    mirror = Mirror(models / "dogs")
    with pytest.raises(StoreError, match=rf"{step}/{WEIGHTS}: the object is damaged"):
        mirror.refresh()
    store.write(WEIGHTS, good + bytes(10_000_000))
    with pytest.raises(StoreError, match="bytes; the limit is"):
        mirror.refresh()
    assert mirror.copy() is None
    store.write(WEIGHTS, good)
    assert checkpoint.load(mirror.refresh()).about.step == 7


def test_a_damaged_copy_is_fetched_again(models: StoreURL) -> None:
    save(model(0), MEAN, about(), models)
    weights = local(models / "dogs") / WEIGHTS
    weights.write_bytes(flip(weights.read_bytes()))
    assert load(models / "dogs").about.step == 7
    shutil.rmtree(weights.parent)
    assert load(models / "dogs").about.step == 7


def test_steps_that_nobody_reads_any_more_leave_the_cache(models: StoreURL) -> None:
    copies = []
    for step in (1, 2, 3):
        save(model(step), MEAN, about(step), models)
        copies.append(local(models / "dogs"))
        if step == 1:
            long_ago = time.time() - 2 * KEPT_S
            os.utime(copies[0], (long_ago, long_ago))
    assert [copy.exists() for copy in copies] == [False, True, True]
    assert load(models / "dogs" / "00000001").about.step == 1


def test_the_copy_stays_while_the_store_is_away(models: StoreURL) -> None:
    step = save(model(0), MEAN, about(), models)
    copy = local(models / "dogs")
    with environment(DEAD.environment()):
        for url in (models / "dogs", step):
            mirror = Mirror(url, patience_s=0)
            with pytest.raises(UnreachableError, match="the store did not answer"):
                mirror.refresh()
            assert mirror.copy() == copy
        assert Mirror(models / "cats").copy() is None


def test_each_fault_is_told_in_a_line(models: StoreURL, store_server: Server) -> None:
    with pytest.raises(CheckpointError, match=rf"^{models}/dogs: there is no published model"):
        load(models / "dogs")
    with pytest.raises(StoreError, match="there is no bucket nowhere"):
        load(StoreURL("s3://nowhere/models/dogs"))
    with environment(store_server.environment("reader")), pytest.raises(StoreError, match="denied"):
        save(model(0), MEAN, about(), models)
    with environment(store_server.environment("none")), pytest.raises(StoreError, match="denied"):
        load(models / "dogs")
    step = save(model(0), MEAN, about(), models)
    Store(step).write(ABOUT, b"{}")
    with pytest.raises(CheckpointError, match=rf"^{step}/{ABOUT}: .*publish the model again"):
        load(models / "dogs")
    Store(models / "dogs").write(POINTER, b'{"directory": "../cats"}')
    with pytest.raises(CheckpointError, match=rf"^{models}/dogs/{POINTER}: the file does not name"):
        load(models / "dogs")


def test_a_cache_without_room_is_told(models: StoreURL, monkeypatch: pytest.MonkeyPatch) -> None:
    save(model(0), MEAN, about(), models)
    monkeypatch.setenv("ALEXNET_CACHE", __file__)
    with pytest.raises(UserError, match="Not a directory; free some disk space, or set ALEXNET_CA"):
        load(models / "dogs")
    code = f"import alexnet; alexnet.load('{models}/dogs')"
    script = 'mount -t tmpfs -o size=100k none "$2"; ALEXNET_CACHE=$2 "$1" -c "$3"'
    done = in_own_mounts(script, "/mnt", code)
    last = done.stderr.splitlines()[-1]
    assert f"{WEIGHTS}: the file cannot be written (No space left on device)" in last


def test_an_index_comes_with_its_model(models: StoreURL) -> None:
    """In place of an earlier one; and goes where it is removed."""

    def build(step: Path) -> Path:
        folder = step / similar.FOLDER
        folder.mkdir()
        for name in similar.FILES:
            (folder / name).write_bytes(os.urandom(100))
        similar.write_about(folder, checkpoint.load(step).about.weights_sha256, "d", 3, "Flat")
        built.append(regular.parsed((folder / ABOUT).read_bytes())["sha256"])
        return folder

    def copied() -> similar.AboutIndex | None:
        copy = mirror.refresh()
        return similar.read_about(copy, checkpoint.read_about(copy))

    built: list[dict[str, str]] = []
    step = save(model(0), MEAN, about(), models)
    mirror = Mirror(models / "dogs")
    assert copied() is None
    for url in (models / "dogs", step):
        assert add_index(url, build) == step / similar.FOLDER
        found = copied()
        assert found
        assert found.sha256 == built[-1]
    Store(step).remove([f"{similar.FOLDER}/{ABOUT}"])
    assert copied() is None
