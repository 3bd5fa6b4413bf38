"""The body of one Ray worker: it hands a training loop what Ray gives."""

import tempfile
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode
from ray.train.torch import get_device

from trainer.loop.loop import Loop, Worker
from trainer.loop.state import Saved, read
from trainer.run import Run


def train_worker(settings: dict[str, Any]) -> bool:
    """Train `settings` (a dumped Run) from its last checkpoint, or from the start, to its end.

    Returns whether it has finished, or was stopped; what rank 0 returns is the run's result.
    """
    run = Run.model_validate(settings)
    context, device = ray.train.get_context(), get_device()
    assert isinstance(device, torch.device)
    worker = Worker(context.get_world_rank(), context.get_world_size(), device)
    return Loop(run, worker, RayHost(run)).train()


class RayHost:
    """What `trainer.loop.loop.Host` asks for, of Ray Train."""

    def __init__(self, run: Run) -> None:
        self._stop = run.folder.stop()
        self._warned = False

    def restore(self) -> Saved | None:
        if (checkpoint := ray.train.get_checkpoint()) is None:
            return None
        with checkpoint.as_directory() as directory:
            return read(Path(directory))

    def save(self, saved: Saved | None, step: int, top1: float) -> None:
        """Every worker waits until rank 0 has written the checkpoint, which travels to the run's
        directory while they go on."""
        checkpoint = None
        if saved:
            directory = Path(tempfile.mkdtemp(prefix="checkpoint."))
            saved.write(directory)
            checkpoint = Checkpoint.from_directory(directory)
        ray.train.report(
            {"top1": top1},
            checkpoint=checkpoint,
            checkpoint_dir_name=f"step_{step:08d}",
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )

    def preempted(self) -> bool:
        """Ray gives all workers the same answer, and waits until each has asked."""
        notice = ray.train.get_preemption_info()
        new, self._warned = bool(notice) and not self._warned, bool(notice)
        return new

    def asked_to_stop(self) -> bool:
        return self._stop.asked()
