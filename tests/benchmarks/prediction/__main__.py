"""python -m tests.benchmarks.prediction: a folder of photographs to a table of answers."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import psutil
from pyarrow import parquet
from pydantic import Field
from typer import Argument

from alexnet import checkpoint
from alexnet.command import UserError
from alexnet.console import Options
from tests.benchmarks.harness import Goal, Measurement, measure, of_tree, report, run

OURS, TORCH_LAYERS, OUR_LAYERS = "alexnet predict", "Ray Data", "Ray Data, our forward pass"
GOALS = (Goal(OURS, TORCH_LAYERS, 1.5), Goal(OURS, OUR_LAYERS, None))
LOOK_S = 0.1
"""Between two looks at what processes have used: what one does after the last is not counted."""


class Prediction(Options):
    """Measure `alexnet predict` beside Ray Data's batch inference.

    Each makes a table of the whole folder once a round, from the start of its command to its end,
    by the same weights on as many processors.
    """

    model: Annotated[Path, Argument()]
    """models/NAME or models/NAME/STEP."""
    folder: Annotated[Path, Argument()]
    """Photographs."""
    views: Literal["1", "10"] = "1"
    """Views of each."""
    rounds: int = Field(5, ge=1)
    """Measurements of each contender."""
    cores: int = Field(2, ge=2)
    """Processors that Ray is told of."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("prediction", Prediction, bench, arguments, "models/mine photos")


def bench(options: Prediction) -> int:
    model, folder = checkpoint.current(options.model).absolute(), options.folder.absolute()
    rest = (options.views, options.cores)

    def visit(number: int) -> Iterator[tuple[str, Measurement]]:
        with tempfile.TemporaryDirectory(prefix="bench.") as temporary:
            out = Path(temporary)
            ours = (
                "alexnet", "predict", model, folder, "--out", out / "ours.parquet",
                "--views", options.views, "--workers", options.cores, "--device", "cpu",
            )  # fmt: skip
            peer = ("tests.benchmarks.prediction.ray_data", model, folder)
            commands = [
                (OURS, out / "ours.parquet", ours),
                (TORCH_LAYERS, out / "torch", (*peer, out / "torch", *rest, "torch")),
                (OUR_LAYERS, out / "peer", (*peer, out / "peer", *rest, "ours")),
            ]
            turn = number % len(commands)
            for name, table, words in commands[turn:] + commands[:turn]:
                yield name, _measured(name, words, table)

    report("images", measure(options.rounds, visit), GOALS, options)
    return 0


def _measured(name: str, words: Sequence[object], table: Path) -> Measurement:
    """Run the command; Ray's processes are not waited for by who starts them, so that the system
    does not add up what they used."""
    used: dict[int, float] = {}
    start = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, "-m", *map(str, words)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None:
        used |= dict(of_tree(_used, process))
        time.sleep(LOOK_S)
    if process.returncode:
        raise UserError(f"{name}: the command failed: python -m {' '.join(map(str, words))}")
    wall_s = time.perf_counter() - start
    return Measurement(parquet.read_table(table).num_rows, wall_s, sum(used.values()))


def _used(process: psutil.Process) -> tuple[int, float]:
    times = process.cpu_times()
    return process.pid, times.user + times.system


if __name__ == "__main__":
    sys.exit(main())
