"""Starts a run on Ray, watches it, and starts it again where a worker died: the driver's side."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any, NamedTuple

from alexnet.command import UserError
from alexnet.store.errors import StoreError
from alexnet.store.url import Place, StoreURL
from pipeline.cluster import is_own
from pipeline.split import DamageError
from trainer.folder.folder import Lost, Stop
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
    checkpoint: Place
    """Directory of the last one."""


def launch(run: Run) -> Outcome:
    """Train a run within a `cluster`; Ctrl-C saves a checkpoint and ends.

    Where a worker dies the run goes on from its last checkpoint. Raises RunError where one failed
    with an error of its own, or too often.
    """
    with run.held() as lost, closing(run.folder.stop()) as stop:
        stop.clear()
        with Display(run) as display, _stopping_on_signal(stop, display):
            return _attempts(run, display, stop, lost)


def _attempts(run: Run, display: Display, stop: Stop, lost: Lost) -> Outcome:
    failures = 0
    while True:
        before = display.step
        if mended := snapshot.mend(run):
            display.say(mended)
        result = _watched(run, resources(), display, lost)
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
        if stop.asked():
            raise RunError(
                f"run {run.name} stopped without saving a checkpoint: {text}"
            ) from result
        display.say(
            f"{text}; continuing from the last checkpoint (retry {failures} of {run.retries})"
        )


def _watched(run: Run, found: Resources, display: Display, lost: Lost) -> Outcome | BaseException:
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
        if why := lost():
            raise RunError(
                f"run {run.name} ends here: {why}; to go on with it, once no other process trains "
                "it: the same command with --resume"
            )
    display.update(now=True)
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
            **_storage(run),
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
    return Outcome(bool(result.return_value), run.runs / result.checkpoint.path)


def _storage(run: Run) -> dict[str, Any]:
    """Where Ray keeps the folders of runs, of which it names those in a store relative to it."""
    if isinstance(run.runs, StoreURL):
        from trainer.on_ray.storage import file_system

        return {"storage_path": ".", "storage_filesystem": file_system(run.runs)}
    return {"storage_path": str(run.runs)}


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


def kept_checkpoint(run: Run, best: bool) -> Place:
    """Directory of a run's last checkpoint, or of that with the best validation accuracy."""
    from ray.train import Result

    logging.getLogger("ray").setLevel(logging.WARNING)  # it explains how to train from scratch
    if not snapshot.fits(run):
        with suppress(RunError), run.held():  # or else a process writes the file this moment
            snapshot.mend(run)
    try:
        found = _storage(run)
        path = f"{found['storage_path']}/{run.name}"
        result = Result.from_path(path, found.get("storage_filesystem"))
        checkpoint = result.get_best_checkpoint("top1", "max") if best else result.checkpoint
    except StoreError:
        raise
    except Exception as error:
        raise RunError(f"{run.directory}: its checkpoints cannot be read ({error})") from None
    if checkpoint is None:
        raise RunError(f"run {run.name} has no checkpoint yet; try again once it has saved one")
    return run.runs / checkpoint.path


@contextmanager
def _stopping_on_signal(stop: Stop, display: Display) -> Iterator[None]:
    """SIGINT and SIGTERM ask the workers to save and end; a second one ends at once."""

    def ask(number: int, frame: object) -> None:
        if stop.asked():
            raise KeyboardInterrupt
        stop.ask()
        display.say("saving a checkpoint, then stopping; a second Ctrl-C stops at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        with suppress(StoreError):  # the next start clears it, too
            stop.clear()


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
