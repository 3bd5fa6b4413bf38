"""Starts a run on Ray and watches it: the driver's side of training."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.cluster import cluster
from trainer.config import Run, RunError
from trainer.progress import Progress

POLL_S = 0.5


class Resources(NamedTuple):
    """What the cluster has."""

    cpus: int
    gpus: int


class Outcome(NamedTuple):
    finished: bool
    """False if the run was stopped on request; with --resume it goes on."""
    accuracy: list[dict[str, Any]]
    checkpoint: Path
    """Directory of the last one."""


def launch(plan: Callable[[Resources], Run]) -> tuple[Run, Outcome]:
    """Train what `plan` makes of the cluster's resources; Ctrl-C saves a checkpoint and ends.

    Raises RunError where a worker failed, and whatever `plan` raises.
    """
    with cluster() as ray:
        found = ray.cluster_resources()
        resources = Resources(int(found.get("CPU", 0)), int(found.get("GPU", 0)))
        run = plan(resources)
        run.stop.unlink(missing_ok=True)
        results: list[Outcome | BaseException] = []
        fit = threading.Thread(
            target=lambda: results.append(_fit(run, resources)), name="fit", daemon=True
        )
        with Progress(run) as progress, _stopping_on_signal(run, progress):
            fit.start()
            while fit.is_alive():
                fit.join(POLL_S)
                progress.update()
    (result,) = results
    if isinstance(result, BaseException):
        raise RunError(f"run {run.name} failed: {_cause(result)}") from result
    return run, result


def _fit(run: Run, resources: Resources) -> Outcome | BaseException:
    """Runs in a thread: in the main one Ray would take Ctrl-C and abort without saving."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from trainer.worker import train_worker

    per_worker = {"CPU": max(1, resources.cpus // run.workers)} | ({"GPU": 1} if run.gpu else {})
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=run.model_dump(mode="json"),
        scaling_config=ScalingConfig(
            num_workers=run.workers, use_gpu=run.gpu, resources_per_worker=per_worker
        ),
        run_config=RunConfig(
            name=run.name,
            storage_path=str(run.runs),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            # Ray's own default is to try for ever.
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=1),
        ),
    )
    try:
        result = trainer.fit()
    except BaseException as error:
        return error
    assert result.checkpoint is not None
    return Outcome(
        finished=result.return_value["finished"],
        accuracy=result.return_value["accuracy"],
        checkpoint=Path(result.checkpoint.path),
    )


@contextmanager
def _stopping_on_signal(run: Run, progress: Progress) -> Iterator[None]:
    """SIGINT and SIGTERM ask the workers to save and end; a second one ends at once."""

    def ask(number: int, frame: object) -> None:
        if run.stop.exists():
            raise KeyboardInterrupt
        run.stop.touch()
        progress.say("saving a checkpoint, then stopping; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        run.stop.unlink(missing_ok=True)


def _cause(error: BaseException) -> str:
    """The first worker's own error, in one line."""
    failures = getattr(error, "worker_failures", None) or {0: error}
    rank, cause = next(iter(failures.items()))
    # Ray wraps what a worker raised; the original is the innermost.
    while (inner := getattr(cause, "cause", None) or cause.__cause__) is not None:
        cause = inner
    first = (str(cause).strip() or repr(cause)).splitlines()[0]
    return f"worker {rank}: {type(cause).__name__}: {first}"
