"""What all benchmarks share: commands, rounds, ratios against goals, tables and a line of JSON.

Contenders take turns, once a round. What counts is the ratio of two within a round, and mostly of
what they did for each second of CPU time: other work on the machine moves both alike.
"""

import json
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple, TypeVar

import psutil
from pydantic import Field

from alexnet.command import UserError
from alexnet.config import AlexNetConfig
from alexnet.console import Command, Commands, Options, run_one

PACKAGES = (
    "torch", "numpy", "pillow", "psutil", "ray", "nvidia-dali-cuda130", "simplejpeg", "fastapi",
    "uvicorn", "litserve", "faiss-cpu",
)  # fmt: skip
Result = TypeVar("Result")
Device = Literal["cpu", "cuda"]


class Network(Options):
    """Options of a network that nobody trained."""

    width: float = Field(1.0, gt=0)
    """Share of the paper's units that each layer of the network has."""
    crop: int = Field(224, ge=1)
    """Rows and columns of a view."""
    classes: int = Field(1000, ge=2)
    """Classes that the network knows."""

    @property
    def network(self) -> AlexNetConfig:
        return AlexNetConfig(width=self.width, crop=self.crop, classes=self.classes)


def run(
    module: str,
    options: type[Options],
    work: Callable[[Any], int],
    arguments: Sequence[str] | None = None,
    example: str = "",
    package: str = "tests.benchmarks",
) -> int:
    """The command `python -m PACKAGE.MODULE`: the status that `work` returns when it is given the
    `options` that `arguments` (by default, this process's) name."""
    program = f"python -m {package}.{module}"
    command = Command(options, f"{work.__module__}:{work.__name__}", f"{program} {example}")
    words = sys.argv[1:] if arguments is None else arguments
    return run_one(program, module, Commands("bench", {module: command}), words)


def product(*words: object) -> None:
    """Run `python -m` with these words, as a user does. Raises UserError where that fails."""
    command = [sys.executable, "-m", *map(str, words)]
    print("$ python", *command[1:], file=sys.stderr, flush=True)
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise UserError("the command above failed")


def in_own_process(function: Callable[..., Result], *arguments: Any) -> Result:
    """What the function returns, from a new process."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as process:
        return process.submit(function, *arguments).result()


@dataclass
class Measurement:
    """What was done from one idle moment to another, and what that cost."""

    count: int
    """The number of images, or of requests."""
    wall_s: float
    cpu_s: float
    """User and system time of all processes."""

    @property
    def per_s(self) -> float:
        return self.count / self.wall_s

    @property
    def per_core_s(self) -> float:
        return self.count / self.cpu_s


Measurements = Mapping[str, Sequence[Measurement]]
"""{contender: its measurement of each round}."""


def measure(
    rounds: int, visit: Callable[[int], Iterable[tuple[str, Measurement]]]
) -> dict[str, list[Any]]:
    """{contender: its measurement of each round}; `visit(number)` yields those of one round."""
    measurements: dict[str, list[Measurement]] = {}
    for number in range(rounds):
        for name, measurement in visit(number):
            measurements.setdefault(name, []).append(measurement)
            rate = f"{measurement.per_core_s:,.1f} a core-second"
            print(f"round {number + 1} of {rounds}: {name}, {rate}", flush=True)
    return measurements


class Goal(NamedTuple):
    first: str
    second: str
    at_least: float | None
    """The least ratio of the first over the second in the same round. None: it is only measured."""
    of: str = "per_core_s"
    """The attribute of a measurement that is compared."""
    what: str = ""
    """That in words, where it is something else than the table's."""


@dataclass(frozen=True)
class Spread:
    """The median and the extremes of one value a round."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        ordered = sorted(values)
        return cls(median(ordered), ordered[0], ordered[-1])

    def cells(self, form: str) -> tuple[str, str]:
        """The median, and the lowest and highest."""
        return f"{self.median:{form}}", f"{self.low:{form}} to {self.high:{form}}"


@dataclass(frozen=True)
class Ratio:
    first: str
    second: str
    what: str
    ratio: Spread
    at_least: float | None
    met: bool | None

    @classmethod
    def of(cls, goal: Goal, measurements: Measurements) -> "Ratio":
        pairs = zip(measurements[goal.first], measurements[goal.second], strict=True)
        ratio = Spread.of(getattr(a, goal.of) / getattr(b, goal.of) for a, b in pairs)
        met = None if goal.at_least is None else ratio.median >= goal.at_least
        return cls(goal.first, goal.second, goal.what, ratio, goal.at_least, met)


def ratios(goals: Iterable[Goal], measurements: Measurements) -> list[Ratio]:
    """The ratios of those goals whose contenders both took part."""
    return [
        Ratio.of(g, measurements)
        for g in goals
        if g.first in measurements and g.second in measurements
    ]


def report(
    unit: str,
    measurements: Measurements,
    goals: Iterable[Goal],
    options: Options,
    texts: Iterable[str] = (),
    **found: Any,
) -> None:
    """Print rates and ratios, `texts`, the machine, and one line of JSON of it all and `found`."""
    reached = ratios(goals, measurements)
    print(f"\n{rate_table(unit, measurements)}\n{ratio_table(unit, reached)}", *texts, sep="\n")
    today, here = datetime.now(UTC).date().isoformat(), machine()
    memory_gib = here["memory_bytes"] / 2**30
    print(f"{here['cores']} cores of {here['cpu']}, {memory_gib:.0f} GiB; {today}")
    everything = {
        "windows": {
            name: [asdict(measurement) for measurement in own] for name, own in measurements.items()
        },
        "ratios": [asdict(ratio) for ratio in reached],
        **found,
        "machine": here,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES},
        "date": today,
        "options": options.model_dump(mode="json"),
    }
    print(json.dumps(everything))


def rate_table(unit: str, measurements: Measurements) -> str:
    rows = []
    for name, own in measurements.items():
        rate = Spread.of(measurement.per_s for measurement in own)
        per_core_s = Spread.of(measurement.per_core_s for measurement in own)
        rows.append((name, rate.cells(",.1f")[0], *per_core_s.cells(",.1f")))
    return table(
        ("contender", f"{unit}/s", f"{unit} per core-second", "lowest to highest round"), rows
    )


def ratio_table(unit: str, reached: Iterable[Ratio]) -> str:
    verdicts = {True: "met", False: "not met", None: ""}
    return table(
        (f"{unit} per core-second", "ratio", "lowest to highest round", "goal", ""),
        [
            (
                f"{r.what}{', ' * bool(r.what)}{r.first} : {r.second}", *r.ratio.cells(".2f"),
                "" if r.at_least is None else f"{r.at_least:g}", verdicts[r.met],
            )
            for r in reached
        ],
    )  # fmt: skip


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; nothing where there are no rows."""
    body = list(rows)
    lines = [head, ("---",) * len(head), *body] if body else []
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def machine() -> dict[str, Any]:
    """This one, as Linux describes it: its cores are those that this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.split(": ", 1)[1] for line in lines if line.startswith("model name"))
    return {
        "cpu": next(names, platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    }


def of_tree(read: Callable[[psutil.Process], Result], root: psutil.Process) -> list[Result]:
    """What is read of a process, first, and of each below it."""
    values = []
    with suppress(psutil.NoSuchProcess):
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # it ended meanwhile
                values.append(read(process))
    return values


def cpu_s(root: psutil.Process) -> float:
    """CPU time of a process and all below it, those that have ended included."""
    times = of_tree(psutil.Process.cpu_times, root)
    return sum(t.user + t.system + t.children_user + t.children_system for t in times)


def own_bytes(field: str) -> int:
    """Bytes of this process: VmHWM, the most it ever had; RssAnon, what no file backs."""
    return 1024 * int(Path("/proc/self/status").read_text().split(f"{field}:")[1].split()[0])
