"""A whole run on Ray, killed on its way, resumed, and published."""

import json
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil

from alexnet import checkpoint
from pipeline.dataset import Dataset
from tests.gpu.check import Finding, Setup

ROOT = Path(__file__).parents[2]
EPOCHS = 3
SMALL = ("--set", "network.width=0.25", "--set", "precision=fp32")
"""For the rehearsal on a CPU."""


def killed_and_resumed(setup: Setup) -> Iterator[Finding]:
    """`trainer train`, its processes killed after a checkpoint within an epoch; `--resume`."""
    data = Dataset(setup.dataset)
    batch = max(4, len(data.train) // 30)
    words = [*command(setup, data, "first", EPOCHS, batch), "--save-every", "1"]
    metrics = setup.folder / "runs/first/metrics.jsonl"
    with subprocess.Popen(words, cwd=ROOT) as process:
        _wait_for_checkpoint(process, metrics.parent, -(-len(data.train) // batch))
        tree = [*psutil.Process(process.pid).children(recursive=True), process]
        for each in tree:
            each.kill()
        psutil.wait_procs([each for each in tree if isinstance(each, psutil.Process)], timeout=10)
    killed_at = _step(metrics)
    yield Finding("step at which it was killed", killed_at)
    began = time.monotonic()
    subprocess.run([*words, "--resume"], cwd=ROOT, check=True)
    yield Finding("resumed until its end", time.monotonic() - began, unit="s")
    events = _events(metrics)
    learnt: Counter[int] = Counter()
    latest = {event["step"]: event for event in events if event["kind"] == "train"}
    resumed = [e for e in events if e["kind"] == "train"][-1]
    for event in latest.values():
        learnt[int(event["epoch"] - 1e-9)] += event["samples"]
    yield Finding(
        "last epoch's samples too few or many", abs(learnt[EPOCHS - 1] - len(data.train)), 0
    )
    yield Finding("loss at the end", resumed["loss"], unit="nats")
    (one, ten) = [event for event in events if event["kind"] == "val"][-2:]
    yield Finding("validation images too few or many", abs(ten["pictures"] - len(data.val)), 0)
    yield Finding("top-1 by ten views", 100 * ten["top1"] / ten["pictures"], unit="%")
    published = checkpoint.load(setup.folder / "models/first")
    missed = published.about.step - EPOCHS * -(-len(data.train) // batch)
    yield Finding("published steps too few or many", abs(missed), 0)
    difference = abs(published.about.accuracy[0].top1 - one["top1"])
    yield Finding("published accuracy differs", difference, 0)


def command(setup: Setup, data: Dataset, name: str, epochs: int, batch: int) -> list[str]:
    """What starts a run, of which nothing is left from before."""
    for kind in ("runs", "models"):
        shutil.rmtree(setup.folder / kind / name, ignore_errors=True)
    size = data.manifest.size
    small = () if setup.gpu else SMALL
    return [
        sys.executable, "-m", "trainer", "train", "--recipe", "paper", "--data", str(setup.dataset),
        "--name", name, "--epochs", str(epochs), "--batch", str(batch),
        "--device", "gpu" if setup.gpu else "cpu", "--workers", "1",
        "--runs", str(setup.folder / "runs"), "--models", str(setup.folder / "models"),
        "--set", f"size={size}", "--set", f"network.crop={size * 7 // 8}", *small,
    ]  # fmt: skip


def _events(metrics: Path) -> list[dict]:
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def _step(metrics: Path) -> int:
    return max((event["step"] for event in _events(metrics)), default=0)


def _wait_for_checkpoint(process: subprocess.Popen, run: Path, steps: int) -> None:
    """Until Ray has just written that there is a checkpoint of more than `steps` steps: it writes
    in place, and what is killed while it does so cannot be resumed (Ray 2.60)."""
    snapshot, before = run / "checkpoint_manager_snapshot.json", ""
    while True:
        if process.poll() is not None:
            raise RuntimeError(f"the run ended before it was killed, with {process.returncode}")
        text = snapshot.read_text() if snapshot.exists() else ""
        named = [int(step) for step in re.findall(r"step_(\d+)", text)]
        if text != before and text.endswith("}") and max(named, default=0) > steps:
            return
        before = text
        time.sleep(0.02)
