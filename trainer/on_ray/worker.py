"""The body of one Ray worker: the only place where training meets Ray, besides `launch`."""

import tempfile
import time
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train import Checkpoint, CheckpointUploadMode
from ray.train.torch import get_device
from torch import Tensor, distributed

from alexnet.checkpoint import Accuracy
from alexnet.views import centre_mean
from pipeline.batches import Batches, Decoding, train_batches
from pipeline.dataset import Dataset
from pipeline.hw_load import best_hw_load
from pipeline.order import Shard, share
from trainer.evaluation.validation import evaluate
from trainer.loop.log import Log
from trainer.loop.optimizer import BIAS_RATE, SGD2012
from trainer.loop.parallel import Data, Parallel
from trainer.loop.precision import resolve_precision
from trainer.loop.state import Saved, Stand, begin, read
from trainer.loop.step import Place, train_step
from trainer.loop.towers import Towers
from trainer.run import Run, RunError

LOOK_S, MOST_STEPS = 1.0, 100
"""Workers look at each other's counts, and at what rank 0 asks for, about so often."""


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train `settings` (a dumped Run) from its last checkpoint, or from the start, to its end.

    Returns {"finished": bool, "accuracy": [Accuracy, dumped]}; rank 0's is the run's result.
    """
    worker = Worker(Run.model_validate(settings))
    try:
        return worker.train()
    finally:
        if worker.log:
            worker.log.close()


@dataclass
class Window:
    """What one worker counts between two looks."""

    began: float = field(default_factory=time.monotonic)
    steps: int = 0
    wait_s: float = 0.0
    """Spent on waiting for pictures."""
    counts_3: Tensor | float = 0.0
    """(sum of losses, right labels, samples)."""


class Worker:
    def __init__(self, run: Run) -> None:
        context, device = ray.train.get_context(), get_device()
        assert isinstance(device, torch.device)
        self.run, self.device = run, device
        self.rank, self.world = context.get_world_rank(), context.get_world_size()
        self.device_id = device.index if device.type == "cuda" else None
        recipe = run.recipe
        self.precision = resolve_precision(recipe.precision, device)
        self.dataset = Dataset(run.data)
        mean_SS3 = self.dataset.mean_picture(recipe.mean)
        self.mean_3HW = centre_mean(mean_SS3, recipe.network.crop).to(device)

        saved = self.restore()
        self.stand = saved.stand if saved else Stand()
        self.network = begin(run).to(  # type: ignore[call-overload]
            device, memory_format=torch.channels_last
        )
        if saved:
            self.network.load_state_dict(saved.weights)
        self.parallel = self.arrange()
        self.optimizer = SGD2012(
            self.parallel.module, recipe.rate, recipe.momentum, recipe.weight_decay
        )
        if saved:
            self.optimizer.set_velocity(self.parallel.own(saved.velocity), saved.rates)
        self.shard = Shard(self.parallel.index, self.parallel.count, self.device_id)
        self.decoding = self.choose_decoding()
        self.log = Log(run, self.stand.step) if self.rank == 0 else None
        self.pace = 1
        self.saved_step, self.saved_at = (self.stand.step if saved else None), time.monotonic()
        self.warned = False

    def arrange(self) -> Parallel:
        compress = self.run.recipe.gradients == "bf16"
        if self.run.parallelism == "towers":
            return Towers(self.network, compress=compress)
        return Data(self.network, self.rank, self.world, compress=compress)

    def restore(self) -> Saved | None:
        if (checkpoint := ray.train.get_checkpoint()) is None:
            return None
        with checkpoint.as_directory() as directory:
            return read(Path(directory))

    def choose_decoding(self) -> Decoding:
        threads, hw_load = max(1, torch.get_num_threads()), self.run.hw_load
        if self.device_id is not None and hw_load is None:
            hw_load = best_hw_load(self.dataset, self.shard, threads)
        return Decoding(threads, self.run.damage, Decoding.hw_load if hw_load is None else hw_load)

    def train(self) -> dict[str, Any]:
        accuracy: Accuracy | None = None
        while self.stand.epoch < self.run.recipe.epochs:
            stopped = self.train_epoch()
            if self.stand.position < len(self.dataset.train):
                self.save()
            else:
                self.stand.epoch, self.stand.position = self.stand.epoch + 1, 0
                accuracy = self.evaluate(views=1)
                self.stand.errors.append(1 - accuracy.top1 / accuracy.pictures)
                self.save(top1=accuracy.top1 / accuracy.pictures)
            if stopped and self.stand.epoch < self.run.recipe.epochs:
                return {"finished": False, "accuracy": []}
        accuracies = (accuracy or self.evaluate(views=1), self.evaluate(views=10))
        return {"finished": True, "accuracy": [a.model_dump() for a in accuracies]}

    def train_epoch(self) -> bool:
        """From where the run stands to the end of its epoch; True if asked to stop, there or on the
        way."""
        stand, recipe, samples = self.stand, self.run.recipe, len(self.dataset.train)
        whole_batch = min(recipe.batch, samples)  # more would be padding
        if stand.epoch >= recipe.conv1_until * recipe.epochs:
            self.parallel.freeze("conv1")
        window, batches, began = Window(), self.batches(whole_batch), stand.position
        look: dict[str, float] = {"stop": 0}
        while stand.position < samples:
            asked = time.monotonic()
            batch = next(batches)
            window.wait_s += time.monotonic() - asked
            if self.log and stand.position == began:
                self.log.pictures(batch.image_NCHW, self.mean_3HW, stand.step)
            real = min(whole_batch, samples - stand.position)
            first, _, _ = share(samples, stand.position, whole_batch, self.shard)
            rate = self.set_rates(samples, whole_batch)
            window.counts_3 += train_step(
                self.parallel.model,
                self.optimizer,
                batch,
                Place(recipe.seed, stand.epoch, stand.position, real, first - stand.position),
                world=self.parallel.count,
                precision=self.precision,
                micro=self.run.micro,
            )
            stand.position += real
            stand.step += 1
            window.steps += 1
            if window.steps >= self.pace or stand.position == samples:
                look = self.look(window, batches.replaced, rate)
                window = Window()
                if look["stop"]:
                    break
                if stand.position < samples and (self.preempted() or look["save"]):
                    self.save()
        return bool(look["stop"])

    def batches(self, whole_batch: int) -> Batches:
        stand, recipe = self.stand, self.run.recipe
        return train_batches(
            self.dataset,
            self.shard,
            self.decoding,
            seed=recipe.seed,
            epoch=stand.epoch,
            start=stand.position,
            batch=whole_batch,
            crop=recipe.network.crop,
            mean=recipe.mean,
            colour=stand.epoch < recipe.colour_until * recipe.epochs,
            # On a CPU converting to 16 bits takes longer than it saves.
            output="float16"
            if self.precision == "bf16" and self.device_id is not None
            else "float32",
        )

    def set_rates(self, samples: int, whole_batch: int) -> float:
        """As the schedule has it for the next step; returns the weights' rate."""
        stand, recipe = self.stand, self.run.recipe
        epochs = stand.epoch + stand.position / samples
        factor = recipe.schedule.at(epochs / recipe.epochs, stand.errors)
        rate = recipe.rate
        if epochs < recipe.warmup:
            rate *= min(1, (epochs + whole_batch / samples) / recipe.warmup)
        self.optimizer.set_rates(rate * factor.weights, BIAS_RATE * rate * factor.biases)
        return rate * factor.weights

    def look(self, window: Window, replaced: int, rate: float) -> dict[str, float]:
        """What all workers counted since the last look, and what rank 0 asks for: the same dict on
        every worker. Raises RunError if the run has diverged."""
        stand, leads = self.stand, self.rank == 0
        assert isinstance(window.counts_3, Tensor)
        loss, right, seen = window.counts_3.tolist()  # waits for a GPU to be done
        elapsed_s = time.monotonic() - window.began
        pace = min(MOST_STEPS, max(1, round(LOOK_S * window.steps / elapsed_s)))
        own = {
            "loss": loss * self.parallel.counts,
            "right": right * self.parallel.counts,
            "seen": seen * self.parallel.counts,
            "replaced": replaced * self.parallel.counts,
            "wait": window.wait_s / elapsed_s / self.world,
            "squared_norm": self.squared_norm() if self.parallel.index == 0 else 0,
            "pace": leads * pace,
            "stop": leads and self.run.stop.exists(),
            "save": leads and time.monotonic() - self.saved_at >= self.run.save_every_s,
        }
        all_ = torch.tensor(list(own.values()), dtype=torch.float64, device=self.device)
        if self.world > 1:
            distributed.all_reduce(all_)
        look = dict(zip(own, all_.tolist(), strict=True))
        self.pace = int(look["pace"])
        if not isfinite(look["loss"]):
            kept = f"step {self.saved_step}" if self.saved_step is not None else "none"
            raise RunError(
                f"the loss is {look['loss']} at step {stand.step}: the run has diverged (last good "
                f"checkpoint: {kept}); start again under another --name with a lower learning rate "
                "(--set rate=...) or another --seed"
            )
        if self.log:
            self.log.train(
                epoch=stand.epoch + stand.position / len(self.dataset.train),
                step=stand.step,
                rate=rate,
                loss=look["loss"] / look["seen"],
                top1=look["right"] / look["seen"],
                samples=int(look["seen"]),
                workers=self.world,
                gradient_norm=look["squared_norm"] ** 0.5,
                images_per_s=look["seen"] / elapsed_s,
                wait=look["wait"],
                replaced=int(look["replaced"]),
            )
        return look

    def squared_norm(self) -> float:
        gradients = [p.grad for p in self.parallel.module.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients).item() ** 2

    def preempted(self) -> bool:
        """Whether a node of this run is about to be taken away; true once for each notice."""
        notice = ray.train.get_preemption_info()
        new, self.warned = bool(notice) and not self.warned, bool(notice)
        return new

    def evaluate(self, views: int) -> Accuracy:
        self.gather_network()
        accuracy = evaluate(
            self.network,
            self.mean_3HW,
            self.dataset,
            Shard(self.rank, self.world, self.device_id),
            views=views,
            precision=self.precision,
            decoding=self.decoding,
        )
        if self.log:
            self.log.val(accuracy, epoch=self.stand.epoch, step=self.stand.step)
            self.log.kernels(self.network.conv1.weight, self.stand.step)
        return accuracy

    def gather_network(self) -> None:
        """Bring the whole network up to what the workers have learnt."""
        if self.parallel.module is not self.network:
            self.network.load_state_dict(self.parallel.gather(self.parallel.module.state_dict()))

    def save(self, top1: float = 0.0) -> None:
        """A checkpoint that Ray keeps; `top1` is what the best are chosen by. Every worker waits
        until rank 0 has written it; it travels to the run's directory while they go on."""
        self.gather_network()
        velocity = self.parallel.gather(self.optimizer.velocity())
        self.saved_step, self.saved_at = self.stand.step, time.monotonic()
        checkpoint = None
        if self.rank == 0:
            directory = Path(tempfile.mkdtemp(prefix="checkpoint."))
            Saved(
                stand=self.stand,
                weights=self.network.state_dict(),
                velocity=velocity,
                rates=self.optimizer.rates,
            ).write(directory)
            checkpoint = Checkpoint.from_directory(directory)
        ray.train.report(
            {"top1": top1},
            checkpoint=checkpoint,
            checkpoint_dir_name=f"step_{self.stand.step:08d}",
            checkpoint_upload_mode=CheckpointUploadMode.ASYNC,
            delete_local_checkpoint_after_upload=True,
        )
