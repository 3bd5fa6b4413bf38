"""python -m tests.benchmarks.prediction: a folder of photographs to a table of answers."""

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from typer import Argument

from alexnet import checkpoint
from alexnet.console import Options
from pipeline.sources.unlabelled import photographs
from tests.benchmarks.contender import Contender, compete
from tests.benchmarks.harness import Goal, report, run
from tests.benchmarks.prediction.contenders import Task, ours, ray_data

OURS, RAY_DATA = "alexnet predict", "Ray Data"
GOALS = (Goal(OURS, RAY_DATA, 1.5),)
WARM_UP = {OURS: 4, RAY_DATA: 8}
"""Deliveries: what had been prefetched."""


class Prediction(Options):
    """Measure `alexnet predict` beside Ray Data's batch inference.

    Both have the same files, the same model and the same processors, and rest while the other is
    measured. Starting is not measured.
    """

    model: Annotated[Path, Argument()]
    """models/NAME or models/NAME/STEP."""
    folder: Annotated[Path, Argument()]
    """Photographs."""
    views: Literal["1", "10"] = "1"
    """Views of each."""
    rounds: int = Field(5, ge=1)
    """Measurements of each contender."""
    seconds: float = Field(15.0, gt=0)
    """Least length of a measurement."""
    cores: int = Field(2, ge=2)
    """Processors that Ray is told of."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("prediction", Prediction, bench, arguments, "models/mine photos --rounds 5")


def bench(options: Prediction) -> int:
    os.environ["OMP_NUM_THREADS"] = "1"  # as Ray has it for tasks of one core
    files = tuple(photograph.location for photograph in photographs([str(options.folder)]))
    step = checkpoint.current(options.model).absolute()
    task = Task(step, files, int(options.views), options.cores)
    with ExitStack() as stack:
        contenders = []
        for name, deliver in ((OURS, ours), (RAY_DATA, ray_data)):
            contender = Contender(name, WARM_UP[name], deliver, task, environment={})
            contenders.append(stack.enter_context(contender))
            print(f"ready: {name}, {contender.kind}", flush=True)
        measurements = compete(contenders, options.rounds, options.seconds)
    report("images", measurements, GOALS, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
