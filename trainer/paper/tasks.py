"""Rows as Ray tasks: as many at a time as there are CPUs or GPUs."""

from pathlib import Path
from typing import Any

import torch

from alexnet.command import UserError
from trainer.on_ray.workers import Workers
from trainer.paper.experiment import Experiment, Place, Result, Row
from trainer.paper.rows import Rows


def finish(experiment: Experiment, rows: Rows, work: Path, workers: Workers) -> None:
    """Compute the rows that the experiment wants and that are not there yet; within a `cluster`.

    Each is kept as soon as it is there. Raises UserError where one of them cannot be computed.
    """
    while missing := [row for row in experiment.rows(rows.found) if rows.found(row) is None]:
        _compute(experiment.name, missing, rows, work, workers)


def _compute(name: str, missing: list[Row], rows: Rows, work: Path, workers: Workers) -> None:
    import ray

    # A process ends after ten rows, as it grows by some 90 MB with each.
    task = ray.remote(num_cpus=workers.threads, num_gpus=int(workers.gpu), max_calls=10)(_run)
    # Each row has the same number of threads, which the last bits depend on.
    waiting = missing[::-1]
    running: dict[Any, Row] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers.count:
                row = waiting.pop()
                place = Place(row.data, work, workers.threads, workers.gpu)
                running[task.remote(row, place)] = row
            (ready,), _ = ray.wait(list(running))
            row = running.pop(ready)
            try:
                rows.keep(row, ray.get(ready))
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"a process that computed {row.name} died ({error}); if memory ran out, lower "
                    "--workers"
                ) from None
            left = len(waiting) + len(running)
            print(f"{name}: {row.name} is done, {left} of {len(missing)} left", flush=True)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _run(row: Row, place: Place) -> Result:
    torch.set_num_threads(place.threads)
    return row.run(row.settings, place)
