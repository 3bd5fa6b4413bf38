"""The body of one Ray worker: the only place where training meets Ray, besides `launch`."""

import json
import tempfile
import time
from math import isfinite
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint
from ray.train.torch import get_device
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from alexnet.checkpoint import Accuracy
from alexnet.views import centre_mean
from pipeline.batches import Decoding, train_batches
from pipeline.dataset import Dataset
from pipeline.decoder import best_hw_load
from pipeline.order import Shard, share
from trainer.config import Run, RunError, resolve_precision
from trainer.evaluate import evaluate
from trainer.schedule import rate_at
from trainer.state import State
from trainer.step import Place, train_step

SUM_STEPS = 10
"""Steps between two looks at the other workers' counts and at the request to stop."""


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train `settings` (a dumped Run) from its last checkpoint, or from the start, to its end.

    Returns {"finished": bool, "accuracy": [Accuracy, dumped]}; rank 0's is the run's result.
    """
    worker = Worker(Run.model_validate(settings))
    try:
        return worker.train()
    finally:
        worker.log.close()


class Worker:
    def __init__(self, run: Run) -> None:
        context, device = ray.train.get_context(), get_device()
        assert isinstance(device, torch.device)
        self.run = run
        self.shard = Shard(
            context.get_world_rank(),
            context.get_world_size(),
            device.index if device.type == "cuda" else None,
        )
        self.precision = resolve_precision(run.recipe.precision, device)
        self.dataset = Dataset(run.data)
        self.decoding = self.choose_decoding()
        self.state = State.begin(run, device)
        if checkpoint := ray.train.get_checkpoint():
            with checkpoint.as_directory() as directory:
                self.state.restore(Path(directory))
        mean_SS3 = self.dataset.mean_picture(run.recipe.mean)
        self.mean_3HW = centre_mean(mean_SS3, run.recipe.network.crop).to(device)
        self.model: torch.nn.Module = self.state.model
        if self.shard.count > 1:
            self.model = DistributedDataParallel(
                self.state.model,
                device_ids=None if device.type == "cpu" else [device],
                gradient_as_bucket_view=True,
            )
        self.log = Log(run.metrics if self.shard.index == 0 else None)

    @property
    def on_gpu(self) -> bool:
        return self.shard.device_id is not None

    def choose_decoding(self) -> Decoding:
        threads, hw_load = max(1, torch.get_num_threads()), self.run.hw_load
        if self.on_gpu and hw_load is None:
            hw_load = best_hw_load(self.dataset, self.shard, threads)
        return Decoding(threads, self.run.damage, Decoding.hw_load if hw_load is None else hw_load)

    def train(self) -> dict[str, Any]:
        accuracy: Accuracy | None = None
        while self.state.epoch < self.run.recipe.epochs:
            if not self.train_epoch():
                self.save({"stopped": 1.0})
                return {"finished": False, "accuracy": []}
            self.state.epoch, self.state.position = self.state.epoch + 1, 0
            accuracy = self.evaluate(views=1)
            self.save({"top1": accuracy.top1 / accuracy.pictures})
        accuracies = (accuracy or self.evaluate(views=1), self.evaluate(views=10))
        return {"finished": True, "accuracy": [a.model_dump() for a in accuracies]}

    def train_epoch(self) -> bool:
        """From the state's position to the end of its epoch; False if asked to stop on the way."""
        state, recipe, samples = self.state, self.run.recipe, len(self.dataset.train)
        global_batch = min(recipe.batch, samples)  # more would be padding
        sums_5 = torch.zeros(5, dtype=torch.float64, device=self.mean_3HW.device)
        began = time.monotonic()
        batches = train_batches(
            self.dataset,
            self.shard,
            self.decoding,
            seed=recipe.seed,
            epoch=state.epoch,
            start=state.position,
            batch=global_batch,
            crop=recipe.network.crop,
            mean=recipe.mean,
            # On a CPU converting to 16 bits takes longer than it saves.
            output="float16" if self.precision == "bf16" and self.on_gpu else "float32",
        )
        for batch in batches:
            real = min(global_batch, samples - state.position)
            progress = (state.epoch + state.position / samples) / recipe.epochs
            state.optimizer.set_rate(rate_at(progress, recipe.rates))
            first, _, _ = share(samples, state.position, global_batch, self.shard)
            sums_5[:3] += train_step(
                self.model,
                state.optimizer,
                batch,
                Place(recipe.seed, state.epoch, state.position, real, first - state.position),
                world=self.shard.count,
                precision=self.precision,
            )
            state.position += real
            state.step += 1
            if state.step % SUM_STEPS == 0 or state.position == samples:
                sums_5[3] = float(self.shard.index == 0 and self.run.stop.exists())
                sums_5[4] = batches.replaced
                loss, right, seen, stop, replaced = self.sum(sums_5).tolist()
                if not isfinite(loss):
                    raise RunError(
                        f"the loss is {loss} at step {state.step}: the run diverged; "
                        "begin again under another name, with another --seed or a smaller "
                        "--batch, which lowers the rate"
                    )
                now = time.monotonic()
                self.log.write(
                    kind="train",
                    epoch=state.epoch + state.position / samples,
                    step=state.step,
                    rate=rate_at(progress, recipe.rates),
                    loss=loss / seen,
                    top1=right / seen,
                    images_per_s=seen / (now - began),
                    replaced=int(replaced),
                )
                sums_5.zero_()
                began = now
                if stop and state.position < samples:
                    return False
        return True

    def evaluate(self, views: int) -> Accuracy:
        accuracy = evaluate(
            self.state.model,
            self.mean_3HW,
            self.dataset,
            self.shard,
            views=views,
            precision=self.precision,
            decoding=self.decoding,
        )
        self.log.write(
            kind="val", epoch=self.state.epoch, step=self.state.step, **accuracy.model_dump()
        )
        return accuracy

    def save(self, metrics: dict[str, float]) -> None:
        """A checkpoint that Ray keeps; every worker waits until it is stored."""
        if self.shard.index > 0:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as directory:
            self.state.save(Path(directory))
            ray.train.report(
                metrics,
                checkpoint=Checkpoint.from_directory(directory),
                checkpoint_dir_name=f"step_{self.state.step:08d}",
            )

    def sum(self, values: Tensor) -> Tensor:
        if self.shard.count > 1:
            distributed.all_reduce(values)
        return values


class Log:
    """Appends JSON lines to a file; does nothing where there is no path."""

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("a") if path else None

    def write(self, **fields: Any) -> None:
        if self._file:
            self._file.write(json.dumps(fields | {"time": time.time()}) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file:
            self._file.close()
