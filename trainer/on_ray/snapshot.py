"""Ray's account of a run's checkpoints. Ray writes it in place: a process that is killed can leave
it cut or empty, though the checkpoints that it tells of are whole."""

from alexnet import atomic
from trainer.loop.state import Progress, read
from trainer.run import Run, RunError

FILE = "checkpoint_manager_snapshot.json"
FOLDERS = "step_*"


def mend(run: Run) -> str | None:
    """Write the account anew from the folders of the checkpoints where it does not fit them, so
    that the run goes on from the newest one that is whole. Returns what was done, for the user, or
    None. The run must be held: Ray may write the file."""
    file = run.directory / FILE
    if fits(run):
        return None
    progress = {}
    for folder in sorted(run.directory.glob(FOLDERS)):
        try:
            progress[folder.name] = read(folder).progress
        except RunError:  # a process was killed while it copied this checkpoint or removed it
            continue
    if not progress:
        file.unlink(missing_ok=True)
        return f"{run.directory}: none of its checkpoints is whole; the run begins anew"
    atomic.write(file, _account(progress).encode())
    return (
        f"{file}: the file did not fit the checkpoints beside it and was made again from them; the "
        f"last one is {max(progress)}"
    )


def fits(run: Run) -> bool:
    """Whether Ray can read the account and finds the checkpoints that it names; also where there is
    neither an account nor a checkpoint."""
    from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import (
        _CheckpointManagerState,
    )

    try:
        state = _CheckpointManagerState.model_validate_json((run.directory / FILE).read_bytes())
    except FileNotFoundError:
        return not any(run.directory.glob(FOLDERS))
    except ValueError:  # pydantic's too
        return False
    return all((run.directory / r.checkpoint_dir_name).is_dir() for r in state.checkpoint_results)


def _account(checkpoints: dict[str, Progress]) -> str:
    """What Ray would have written of these folders, the oldest first."""
    from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import (
        _CheckpointManagerState,
        _TrainingResultState,
    )

    results = [
        _TrainingResultState(checkpoint_dir_name=name, metrics={"top1": progress.score})
        for name, progress in checkpoints.items()
    ]
    # Ray keeps the best ones last, and tells by the indices which of two is older.
    order = sorted(range(len(results)), key=lambda index: results[index].metrics["top1"])
    account: str = _CheckpointManagerState(
        checkpoint_results=[results[index] for index in order],
        checkpoint_report_indices=order,
        latest_checkpoint_result=results[-1],
        pending_training_results=[],
        pending_validation_specs=[],
        current_report_index=len(results),
        validated_checkpoint_dir_names=[],
        timed_out_validation_checkpoint_dir_names=[],
        failed_validation_checkpoint_dir_names=[],
    ).model_dump_json()
    return account
