"""Ray's account of a run's checkpoints. Ray writes it in place: a process that is killed can leave
it cut or empty, though the checkpoints that it tells of are whole."""

from alexnet.store.errors import MissingError
from trainer.loop.state import Progress, read
from trainer.run import Run, RunError

FILE = "checkpoint_manager_snapshot.json"


def mend(run: Run) -> str | None:
    """Write the account anew from the folders of the checkpoints where it does not fit them, so
    that the run goes on from the newest one that is whole. Returns what was done, for the user, or
    None. The run must be held: Ray may write the file."""
    if fits(run):
        return None
    progress = {}
    for name in run.folder.checkpoints():
        try:
            progress[name] = read(run.directory / name).progress
        except (RunError, MissingError):
            continue  # a process was killed while it copied this checkpoint or removed it
    if not progress:
        run.folder.remove(FILE)
        return f"{run.directory}: none of its checkpoints is whole; the run begins anew"
    run.folder.write(FILE, _account(progress).encode())
    return (
        f"{run.directory / FILE}: the file did not fit the checkpoints beside it and was made "
        f"again from them; the last one is {max(progress)}"
    )


def fits(run: Run) -> bool:
    """Whether Ray can read the account and finds the checkpoints that it names; also where there is
    neither an account nor a checkpoint."""
    from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import (
        _CheckpointManagerState,
    )

    found = run.folder.checkpoints()
    try:
        state = _CheckpointManagerState.model_validate_json(run.folder.read(FILE))
    except FileNotFoundError:
        return not found
    except ValueError:  # pydantic's too
        return False
    return {r.checkpoint_dir_name for r in state.checkpoint_results} <= set(found)


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
