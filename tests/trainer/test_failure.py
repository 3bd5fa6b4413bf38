"""Failure as a normal case: real Ray, real processes, killed; the weights tell if it showed."""

import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import psutil
import pytest
import torch

from pipeline.dataset import Dataset
from tests.conftest import ROOT, in_own_mounts
from tests.nodes import ray_nodes
from tests.trainer.test_train import arguments, events
from trainer.loop import state
from trainer.report import history

pytestmark = pytest.mark.slow

SAVED_EACH_STEP = ("--save-every", "1", "--retries", "1")


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `python -m ...`; what still runs when the test ends is ended."""
    with ExitStack() as stack:

        def command(words: list[str], **options: object) -> subprocess.Popen[str]:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            process = subprocess.Popen([sys.executable, "-m", *words], cwd=ROOT, **pipes, **options)  # type: ignore[call-overload]
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield command


def step(folder: Path, name: str) -> int:
    return max((event["step"] for event in events(folder, name)), default=0)


def wait_for_step(process: subprocess.Popen, folder: Path, name: str, least: int) -> None:
    until = time.monotonic() + 400
    while process.poll() is None and step(folder, name) < least:
        assert time.monotonic() < until, f"no step {least}"
        time.sleep(0.02)


def train_workers(process: subprocess.Popen) -> list[psutil.Process]:
    """The workers of the cluster that a run has started for itself."""
    everything = psutil.Process(process.pid).children(recursive=True)
    return [p for p in everything if p.is_running() and "TrainWorker" in p.name()]


def last(folder: Path, name: str) -> state.Saved:
    return state.read(max((folder / "runs" / name).glob("step_*")))


def same_bits(one: state.Saved, other: state.Saved) -> bool:
    return one.progress == other.progress and all(
        torch.equal(tensor, getattr(other, kind)[name])
        for kind in ("weights", "velocity")
        for name, tensor in getattr(one, kind).items()
    )


def samples_of_each_epoch(folder: Path, name: str) -> Counter:
    """How many samples each epoch learnt from, repeated steps counted once."""
    counts: Counter = Counter()
    for event in history(folder / "runs" / name / "metrics.jsonl")[0]:
        counts[int(event["epoch"] - 1e-9)] += event["samples"]
    return counts


@pytest.mark.parametrize(("kills", "epochs"), [(2, 6), pytest.param(5, 12, marks=pytest.mark.long)])
def test_a_killed_worker_changes_no_bit(
    dataset: Path, tmp_path: Path, start: Callable, kills: int, epochs: int
) -> None:
    """Two workers, one of them killed with -9 at random steps: the undisturbed run's bits."""
    options = [*SAVED_EACH_STEP, "--epochs", str(epochs)]
    undisturbed = start([*arguments("whole", dataset, tmp_path), *options])
    output, _ = undisturbed.communicate(timeout=400)
    assert undisturbed.returncode == 0, output

    process = start([*arguments("killed", dataset, tmp_path), *options])
    draw = random.Random(kills)
    steps = sorted(draw.sample(range(30, 18 * epochs), kills))  # of 27 an epoch: none is the last
    for number, least in enumerate(steps):
        # A second death before the step of the first would be one too many without progress.
        wait_for_step(process, tmp_path, "killed", max(least, step(tmp_path, "killed") + 1))
        workers = train_workers(process)
        assert len(workers) == 2, (number, workers)
        draw.choice(workers).kill()
        seen = len(events(tmp_path, "killed"))
        while process.poll() is None and len(events(tmp_path, "killed")) <= seen + 1:
            time.sleep(0.02)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, (steps, output)
    assert output.count("continuing from the last checkpoint") == kills, (steps, output)
    assert same_bits(last(tmp_path, "whole"), last(tmp_path, "killed")), steps
    samples = len(Dataset(dataset).train)
    assert samples_of_each_epoch(tmp_path, "killed") == dict.fromkeys(range(epochs), samples)


def test_stopped_by_command_and_by_sigterm(
    dataset: Path, tmp_path: Path, start: Callable, run_on_cluster: Callable
) -> None:
    words = [*arguments("r", dataset, tmp_path), "--epochs", "1000"]  # it never gets to its end
    process = start(words)
    wait_for_step(process, tmp_path, "r", 1)
    again = run_on_cluster(*words, "--resume")  # another cluster than that of the run
    assert again.returncode == 2
    assert "run r is being trained already" in again.stderr
    stop = [sys.executable, "-m", "trainer", "stop", "r", "--runs", str(tmp_path / "runs")]
    assert subprocess.run(stop, cwd=ROOT).returncode == 0
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0
    assert "stopped; to go on" in output
    stopped = step(tmp_path, "r")

    process = start([*words, "--resume"])
    wait_for_step(process, tmp_path, "r", stopped + 1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0
    assert "stopped; to go on" in output
    assert last(tmp_path, "r").progress.step >= stopped + 1
    assert subprocess.run(stop, cwd=ROOT, capture_output=True).returncode == 2


@pytest.mark.long  # deploy/smoke.sh does the like with containers
def test_nodes_come_and_go(dataset: Path, tmp_path: Path, start: Callable) -> None:
    """--workers 1:2 on a cluster whose second node is killed, comes back, and is drained with
    notice: every sample of every epoch once."""
    with ray_nodes() as cluster:
        cluster.start(cpus=1)
        second = cluster.start(cpus=1)
        words = [*arguments("elastic", dataset, tmp_path), *SAVED_EACH_STEP, "--epochs", "40"]
        process = start([*words, "--workers", "1:2"], env=cluster.environment)
        wait_for_step(process, tmp_path, "elastic", 60)
        cluster.kill(second)
        wait_for_step(process, tmp_path, "elastic", step(tmp_path, "elastic") + 60)
        cluster.start(cpus=1)
        while process.poll() is None and events(tmp_path, "elastic")[-1].get("workers") != 2:
            time.sleep(0.1)
        wait_for_step(process, tmp_path, "elastic", step(tmp_path, "elastic") + 60)
        cluster.drain(deadline_s=10)
        output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    workers = [e["workers"] for e in events(tmp_path, "elastic") if e["kind"] == "train"]
    assert [count for count, _ in groupby(workers)] == [2, 1, 2, 1], output
    samples = len(Dataset(dataset).train)
    assert samples_of_each_epoch(tmp_path, "elastic") == dict.fromkeys(range(40), samples)
    assert last(tmp_path, "elastic").progress.step == 40 * 27


def test_damage_ends_a_run_and_the_advice_goes_on_with_it(tmp_path: Path, run: Callable) -> None:
    copy = Path(shutil.copytree(ROOT / "tests" / "earlier" / "dataset", tmp_path / "copy"))
    _, size, offset, _ = Dataset(copy).train.index[7].tolist()
    with (copy / "train" / "00000.tar").open("r+b") as shard:
        shard.seek(offset)
        shard.write(bytes(size))
    sizes = ("size=72", "network.crop=64", "network.width=0.06", "rate=0.002")
    words = [
        *arguments("r", copy, tmp_path), "--epochs", "1", "--workers", "1",
        *(word for setting in sizes for word in ("--set", setting)),
    ]  # fmt: skip
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "(image 7): cannot be decoded; `alexnet verify` lists all damage; " in done.stderr
    assert "the same command with --damage replace, and with --resume" in done.stderr
    done = run(*words, "--damage", "replace", "--resume", "--index")
    assert done.returncode == 0, done.stderr
    assert "warning: 1 of 30 images cannot be decoded and are left out" in done.stderr
    assert (tmp_path / "models" / "r" / "00000008" / "similar" / "about.json").exists()


def test_a_full_disk_says_so(dataset: Path, tmp_path: Path) -> None:
    done = in_own_mounts(
        """
        mount -t tmpfs -o size=40m tmpfs "$2"
        "$1" -m "${@:3}" --set network.width=0.4 --epochs 1 || echo "status $?"
        """,
        tmp_path,
        *arguments("full", dataset, tmp_path),
    )
    assert done.stdout.splitlines()[-1] == "status 2", done
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
