"""What an experiment leaves in the folder of evidence: data, a figure, a paragraph."""

import os
import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from alexnet import atomic
from trainer.paper.experiment import Experiment, Found, Table
from trainer.report import save

PACKAGES = ("torch", "numpy", "ray", "nvidia-dali-cuda130", "scipy", "matplotlib")


class KeptRow(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    settings: dict[str, Any]
    found: dict[str, Any]


class Evidence(BaseModel):
    """NAME.json: all that an experiment found, and how."""

    model_config = ConfigDict(frozen=True)

    name: str
    title: str
    size: str
    seeds: int
    paragraphs: tuple[str, ...]
    numbers: dict[str, Any]
    table: Table
    command: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    rows: tuple[KeptRow, ...]


def write(experiment: Experiment, found: Found, size: str, seeds: int, out: Path) -> list[Path]:
    """OUT/NAME.json, .md, .png and .svg of an experiment whose rows are all found; returns their
    paths."""
    out.mkdir(parents=True, exist_ok=True)
    outcome = experiment.outcome(found)
    evidence = Evidence(
        name=experiment.name,
        title=experiment.title,
        size=size,
        seeds=seeds,
        paragraphs=tuple(outcome.paragraphs),
        numbers=dict(outcome.numbers),
        table=outcome.table,
        command=shlex.join(["alexnet", *sys.argv[1:]]),
        date=datetime.now(UTC).date().isoformat(),
        machine=machine(),
        versions={"python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        rows=tuple(
            KeptRow(name=row.name, settings=dict(row.settings), found=dict(found(row) or {}))
            for row in experiment.rows(found)
        ),
    )
    data, text = out / f"{experiment.name}.json", out / f"{experiment.name}.md"
    atomic.write(data, evidence.model_dump_json(indent=1).encode() + b"\n")
    atomic.write(text, _markdown(evidence).encode())
    return [data, text, *save(outcome.figure, out / experiment.name)]


def machine() -> dict[str, Any]:
    """This one; its cores are those that this process may use."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    return {
        "cpu": next(names, platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
    }


def _markdown(evidence: Evidence) -> str:
    head, rows = evidence.table
    lines = [head, ["---"] * len(head), *rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    text = "\n\n".join(evidence.paragraphs)
    return (
        f"# {evidence.title}\n\n{text}\n\n![]({evidence.name}.svg)\n\n{table}\n"
        f"`{evidence.command}`, {evidence.date}, on {described(evidence.machine)}.\n"
    )


def described(machine: Mapping[str, Any]) -> str:
    """A machine, in words."""
    return ", ".join([f"{machine['cores']} cores of {machine['cpu']}", *machine["gpus"]])
