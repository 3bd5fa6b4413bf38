"""Whole runs in a store, which is away, and whose processes are killed; run by URL alone."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from subprocess import Popen

import psutil
import pytest

from alexnet.checkpoint import load
from alexnet.store.store import Store
from alexnet.store.url import Place, StoreURL
from tests.conftest import ROOT
from tests.faulty_store import Faults, faulty
from tests.object_store import Server, environment
from tests.trainer.test_failure import same_bits, start, train_workers
from trainer.loop import state
from trainer.report import history
from trainer.run import Run, RunError, find_run

pytestmark = pytest.mark.slow
start = start  # a fixture
NUMBER = count()
AWAY_S = 20.0
EPOCHS, IMAGES, BATCH = 150, 30, 4


def words(runs: Place, models: Path, epochs: int, *more: str) -> list[str]:
    sizes = ("size=72", "network.crop=64", "network.width=0.06", "rate=0.002", "precision=fp32")
    return [
        "trainer", "train", "--data", str(ROOT / "tests" / "earlier" / "dataset"), "--name", "r",
        "--epochs", str(epochs), "--batch", str(BATCH), "--workers", "1", "--save-every", "1",
        *(word for setting in sizes for word in ("--set", setting)),
        "--runs", str(runs), "--models", str(models), *more,
    ]  # fmt: skip


def step(run: StoreURL) -> int:
    names = Store(run).names()
    told = history(run / "metrics")[0] if any("metrics/" in name for name in names) else []
    return told[-1]["step"] if told else 0


def wait_for_step(process: Popen, run: StoreURL, least: int) -> int:
    until = time.monotonic() + 400
    while (found := step(run)) < least:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until, f"no step {least}"
        time.sleep(0.05)
    return found


def last(run: Run) -> state.Saved:
    return state.read(run.directory / max(run.folder.checkpoints()))


def test_kills_and_a_store_that_is_away_change_no_bit(
    store_server: Server, tmp_path: Path, start: Callable
) -> None:
    """The weights of the same run on disk, and every sample of each epoch once."""
    runs = StoreURL(f"s3://private/killed-{next(NUMBER)}")
    faults = Faults()
    with (
        environment(store_server.environment()),
        faulty(store_server.port, faults) as endpoint,
    ):
        env = {**os.environ, **store_server.environment(endpoint=endpoint)}
        process = start(words(runs, tmp_path / "models", EPOCHS), env=env)
        wait_for_step(process, runs / "r", 20)
        faults.away_until = time.monotonic() + AWAY_S
        whole = start(words(tmp_path / "runs", tmp_path / "models" / "whole", EPOCHS))
        reached = wait_for_step(process, runs / "r", step(runs / "r") + 1)
        assert faults.counts["away"] > 0
        (worker,) = train_workers(process)
        worker.kill()
        wait_for_step(process, runs / "r", reached + 20)
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        output, _ = process.communicate(timeout=400)
        assert output.count("continuing from the last checkpoint") == 1, output
        assert "published" not in output
        psutil.wait_procs(children, timeout=60)

        Store(runs / "r").remove(["lock"])  # or else its minute is waited for
        process = start(words(runs, tmp_path / "models", EPOCHS, "--resume"), env=env)
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
        output, _ = whole.communicate(timeout=400)
        assert whole.returncode == 0, output
        run = find_run(runs, "r")
        assert same_bits(last(run), last(find_run(tmp_path / "runs", "r")))
        train, val = history(run.metrics)
        assert sum(event["samples"] for event in train) == EPOCHS * IMAGES
        assert [event["epoch"] for event in val] == [*range(1, EPOCHS + 1)]
        left = {name.partition("/")[0] for name in Store(run.directory).names()}
        assert not left & {"lock", "stop"}
    stored, kept = (load(tmp_path / "models" / name).about for name in ("r", "whole/r"))
    assert stored.accuracy == kept.accuracy


def test_a_run_is_stopped_published_and_reported_by_url(
    store_server: Server, tmp_path: Path, start: Callable, run: Callable
) -> None:
    runs = StoreURL(f"s3://private/stopped-{next(NUMBER)}")
    of_runs = ("--runs", str(runs))
    with environment(store_server.environment()):
        process = start(words(runs, tmp_path / "models", 100_000))  # it never gets to its end
        wait_for_step(process, runs / "r", 1)
        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(run, "trainer", "stop", "r", *of_runs)
            with (
                pytest.raises(RunError, match=r"run r is being trained already; .* \(process "),
                find_run(runs, "r").held(),
            ):
                pytest.fail("two train it")
            assert stopping.result().returncode == 0, stopping.result().stderr
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
        assert "stopped; to go on: the same command with --resume (run r)" in output
        assert Store(runs).names("r/lock") == Store(runs).names("r/stop") == []

        done = run("trainer", "publish", "r", *of_runs, "--models", tmp_path / "models")
        assert done.returncode == 0, done.stderr
        assert load(tmp_path / "models" / "r").about.step == last(find_run(runs, "r")).progress.step
        done = run("trainer", "report", "r", *of_runs, tmp_path / "curves")
        assert done.stdout.splitlines() == [f"{tmp_path}/curves.png", f"{tmp_path}/curves.svg"]
        done = run("trainer", "stop", "r", *of_runs)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "run r is not running, so there is nothing to stop" in done.stderr


def test_a_run_whose_objects_somebody_removes_ends_with_a_line(
    store_server: Server, tmp_path: Path, start: Callable
) -> None:
    runs = StoreURL(f"s3://private/emptied-{next(NUMBER)}")
    with environment(store_server.environment()):
        process = start(words(runs, tmp_path / "models", 100_000))
        wait_for_step(process, runs / "r", 1)
        Store(runs).remove(Store(runs).names())
        output, _ = process.communicate(timeout=400)
    assert process.returncode == 2, output
    assert "another process has taken over, or somebody removed this object; to go on" in output
    assert "Traceback" not in output
