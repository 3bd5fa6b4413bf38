"""Starts a run on Ray, watches it, and starts it again where a worker died: the driver's side."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from alexnet.command import UserError
from pipeline.cluster import is_own
from pipeline.split import DamageError
from trainer.on_ray import snapshot
from trainer.on_ray.progress import Display
from trainer.on_ray.resources import Resources, resources
from trainer.run import Run, RunError

POLL_S = 0.5
RESIZE_S = 15.0
"""Between two looks for more workers, where their number may change."""
NO_ROOM = "WorkerGroupStartupTimeoutError"
"""What Ray calls it when workers find no room in time."""


class Outcome(NamedTuple):
    finished: bool
    """False if the run was stopped on request; with --resume it goes on."""
    checkpoint: Path
    """Directory of the last one."""


def launch(run: Run) -> Outcome:
    """Train a run within a `cluster`; Ctrl-C saves a checkpoint and ends.

    Where a worker dies the run goes on from its last checkpoint. Raises RunError where one failed
    with an error of its own, or too often.
    """
    with run.held():
        run.stop.unlink(missing_ok=True)
        with Display(run) as display, _stopping_on_signal(run, display):
            return _attempts(run, display)


def _attempts(run: Run, display: Display) -> Outcome:
    failures = 0
    while True:
        before = display.step
        if mended := snapshot.mend(run):
            display.say(mended)
        result = _watched(run, resources(), display)
        if isinstance(result, Outcome):
            return result
        rank, cause = _cause(result)
        text = f"worker {rank}: {_line(cause)}" if rank is not None else _no_room(run, cause)
        if isinstance(cause, DamageError):
            text += (
                "; or train on without such images: the same command with --damage replace, and "
                "with --resume unless it resumes already"
            )
        failures = 1 if display.step > before else failures + 1
        if rank is None or isinstance(cause, UserError) or failures > run.retries:
            raise RunError(f"run {run.name} failed: {text}") from result
        if run.stop.exists():
            raise RunError(
                f"run {run.name} stopped without saving a checkpoint: {text}"
            ) from result
        display.say(
            f"{text}; continuing from the last checkpoint (retry {failures} of {run.retries})"
        )


def _watched(run: Run, found: Resources, display: Display) -> Outcome | BaseException:
    results: list[Outcome | BaseException] = []

    def attempt() -> None:
        try:
            results.append(_fit(run, found))
        except BaseException as error:  # the thread would end without a result
            results.append(error)

    fit = threading.Thread(target=attempt, name="fit", daemon=True)
    fit.start()
    while fit.is_alive():
        fit.join(POLL_S)
        display.update()
    return results[0]


def _fit(run: Run, found: Resources) -> Outcome | BaseException:
    """Runs in a thread: in the main one Ray would take Ctrl-C and abort without saving."""
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig

    from trainer.on_ray.worker import train_worker

    fewest, most = run.workers
    per_worker = {"CPU": found.cpus_per_worker(most, run.gpu)} | ({"GPU": 1} if run.gpu else {})
    trainer = _trainer()(
        train_worker,
        train_loop_config=run.model_dump(mode="json"),
        scaling_config=ScalingConfig(
            num_workers=most if fewest == most else (fewest, most),
            use_gpu=run.gpu,
            resources_per_worker=per_worker,
            elastic_resize_monitor_interval_s=RESIZE_S,
        ),
        run_config=RunConfig(
            name=run.name,
            storage_path=str(run.runs),
            checkpoint_config=CheckpointConfig(
                num_to_keep=run.keep, checkpoint_score_attribute="top1"
            ),
            # Tried again above, where a mistake can be told from an accident. Room for workers is
            # looked for three times; Ray's own default is for ever.
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=2),
        ),
    )
    result = trainer.fit()
    if result.error:
        return result.error
    assert result.checkpoint is not None
    return Outcome(bool(result.return_value), Path(result.checkpoint.path))


def _trainer() -> type:
    """Ray's, without what costs every start or end of a run seconds and does nothing for us."""
    from ray.train.torch import TorchTrainer

    unneeded = {"DatasetsCallback"}  # starts a process for datasets of Ray's own
    if is_own():
        # Frees what a dead driver held, on a cluster that outlives it; and asks a dashboard that
        # is not there, for which every attempt would wait twelve seconds.
        unneeded.add("PlacementGroupCleanerCallback")

    class Trainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            callbacks = super()._create_default_callbacks()
            return [each for each in callbacks if type(each).__name__ not in unneeded]

    return Trainer


def kept_checkpoint(run: Run, best: bool) -> Path:
    """Directory of a run's last checkpoint, or of that with the best validation accuracy."""
    from ray.train import Result

    logging.getLogger("ray").setLevel(logging.WARNING)  # it explains how to train from scratch
    if not snapshot.fits(run):
        with suppress(RunError), run.held():  # or else a process writes the file this moment
            snapshot.mend(run)
    try:
        result = Result.from_path(str(run.directory))
        checkpoint = result.get_best_checkpoint("top1", "max") if best else result.checkpoint
    except Exception as error:
        raise RunError(f"{run.directory}: its checkpoints cannot be read ({error})") from None
    if checkpoint is None:
        raise RunError(f"run {run.name} has no checkpoint yet; try again once it has saved one")
    return Path(checkpoint.path)


@contextmanager
def _stopping_on_signal(run: Run, display: Display) -> Iterator[None]:
    """SIGINT and SIGTERM ask the workers to save and end; a second one ends at once."""

    def ask(number: int, frame: object) -> None:
        if run.stop.exists():
            raise KeyboardInterrupt
        run.stop.touch()
        display.say("saving a checkpoint, then stopping; a second Ctrl-C stops at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        run.stop.unlink(missing_ok=True)


def _cause(error: BaseException) -> tuple[int | None, BaseException]:
    """The first worker that failed with an error of its own, and that error, innermost."""
    failures: dict[int | None, BaseException] = getattr(error, "worker_failures", None) or {
        None: getattr(error, "controller_failure", error)
    }
    causes = {rank: _innermost(failure) for rank, failure in failures.items()}
    for rank, cause in causes.items():
        if isinstance(cause, UserError):
            return rank, cause
    return next(iter(causes.items()))


def _no_room(run: Run, cause: BaseException) -> str:
    """Why Ray's controller gave up."""
    if type(cause).__name__ != NO_ROOM:
        return _line(cause)
    return (
        f"the cluster cannot start {run.workers[0]} worker(s) now: it has {resources()}, and "
        "other work may hold them; lower --workers, or wait and continue with --resume"
    )


def _innermost(error: BaseException) -> BaseException:
    while (inner := getattr(error, "cause", None) or error.__cause__) is not None:
        error = inner
    return error


def _line(error: BaseException) -> str:
    first = (str(error).strip() or repr(error)).splitlines()[0]
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
