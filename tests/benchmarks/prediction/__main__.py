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
from tests.benchmarks.contender import Contender, compete
from tests.benchmarks.harness import Goal, report, run
from tests.benchmarks.prediction.contenders import Task, ours, ray_data

OURS, RAY_DATA = "alexnet predict", "Ray Data"
GOALS = (Goal(OURS, RAY_DATA, 1.5),)
SECONDS = 0.1
"""Least length of a measurement: of one pass over all photographs."""


class Prediction(Options):
    """Measure `alexnet predict` beside Ray Data's batch inference.

    Each makes a table of the whole folder once a round, by the same model on as many processors.
    Ray itself has started before.
    """

    model: Annotated[Path, Argument()]
    """models/NAME or models/NAME/STEP."""
    folder: Annotated[Path, Argument()]
    """Photographs."""
    views: Literal["1", "10"] = "1"
    """Views of each."""
    rounds: int = Field(5, ge=1)
    """Passes of each contender, after one that is not measured."""
    cores: int = Field(2, ge=2)
    """Processors that Ray is told of."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("prediction", Prediction, bench, arguments, "models/mine photos")


def bench(options: Prediction) -> int:
    os.environ["OMP_NUM_THREADS"] = "1"  # as Ray has it for tasks of one core
    step = checkpoint.current(options.model).absolute()
    task = Task(step, options.folder.absolute(), int(options.views), options.cores)
    with ExitStack() as stack:
        contenders = []
        for name, deliver in ((OURS, ours), (RAY_DATA, ray_data)):
            contender = Contender(name, 0, deliver, task, environment={})
            contenders.append(stack.enter_context(contender))
            _ = contender.kind  # which a first pass tells
        measurements = compete(contenders, options.rounds, SECONDS)
    report("images", measurements, GOALS, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
