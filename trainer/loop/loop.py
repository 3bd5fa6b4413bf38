"""One training run, from where it stands to its end: epochs, learning rates, checkpoints,
validation. What it runs in - Ray, or a plain process - is its host."""

import time
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import cached_property
from math import isfinite
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from alexnet.checkpoint import Accuracy
from alexnet.views import centre_mean
from pipeline.batches import Batches, Decoding, train_batches
from pipeline.dataset import Dataset
from pipeline.hw_load import TRIAL
from pipeline.order import Shard, share
from trainer.balance import class_weights
from trainer.evaluation.validation import Validator
from trainer.loop.interval import Interval, Window
from trainer.loop.log import Log
from trainer.loop.optimizer import BIAS_FACTOR, SGD2012
from trainer.loop.parallel import Data, Parallel
from trainer.loop.precision import algorithms, resolve_precision
from trainer.loop.rehearsal import fastest_decoding
from trainer.loop.state import Progress, Saved, begin
from trainer.loop.step import StepPosition, train_step
from trainer.loop.towers import Towers
from trainer.run import Run, RunError

INTERVAL_S, MOST_STEPS = 1.0, 100
"""Workers exchange their counts, and what they ask for, about so often."""


class Worker(NamedTuple):
    """One process among those that share a run.

    Where there are several, torch's default process group joins them.
    """

    rank: int
    world: int
    """How many processes there are."""
    device: torch.device

    @property
    def device_id(self) -> int | None:
        """Index of the GPU; None on a CPU."""
        return self.device.index if self.device.type == "cuda" else None


class Host(Protocol):
    """What a loop asks of the place it runs in. Every worker makes each call at the same step."""

    def restore(self) -> Saved | None:
        """The last checkpoint; None where the run begins."""

    def save(self, saved: Saved | None, step: int, top1: float) -> None:
        """Keep a checkpoint, which rank 0 brings; the others bring None. It shares its tensors with
        the run, so that it must be written before this returns. `top1` tells the best checkpoints
        (`Progress.score`)."""

    def preempted(self) -> bool:
        """Whether this worker's machine is about to be taken away; true once for each notice."""

    def asked_to_stop(self) -> bool:
        """Whether the run is to save a checkpoint and end."""


class Loop:
    """One worker's part of a run."""

    def __init__(self, run: Run, worker: Worker, host: Host) -> None:
        """Go on from the host's checkpoint if it has one. Every worker does this at once."""
        self.run, self.worker, self.host = run, worker, host
        recipe, device = run.recipe, worker.device
        self.precision = resolve_precision(recipe.precision, device)
        self.dataset = Dataset(run.data)
        mean_SS3 = self.dataset.mean_image(recipe.mean)
        self.mean_3HW = centre_mean(mean_SS3, recipe.network.crop).to(device)

        saved = host.restore()
        self.progress = saved.progress if saved else Progress()
        self.network = begin(run, self.mean_3HW).to(  # type: ignore[call-overload]
            device, memory_format=torch.channels_last
        )
        if saved:
            self.network.load_state_dict(saved.weights)
        self.parallel = self._arranged()
        self.parallel.freeze(*recipe.frozen)
        self.optimizer = SGD2012(
            self.parallel.module,
            recipe.rate,
            recipe.momentum,
            recipe.weight_decay,
            recipe.layer_rates,
            recipe.folded,
        )
        if saved:
            self.optimizer.set_velocity(self.parallel.own(saved.velocity), saved.learning_rates)
        self.shard = Shard(self.parallel.index, self.parallel.count, worker.device_id)
        self.decoding = self._decoding()
        self.class_weight_K = None
        if recipe.balance == "loss":
            self.class_weight_K = torch.from_numpy(class_weights(self.dataset)).to(device)
        self.validator = Validator(
            self.dataset, Shard(worker.rank, worker.world, worker.device_id), self.decoding
        )
        self.exchange_every = 1
        """Steps from one exchange to the next."""
        self.saved_step = self.progress.step if saved else None
        self.saved_at = time.monotonic()
        self.log = Log(run, self.progress.step) if worker.rank == 0 else None

    def _arranged(self) -> Parallel:
        compress = self.run.recipe.gradients == "bf16"
        if self.run.parallelism == "towers":
            return Towers(self.network, compress=compress)
        return Data(self.network, self.worker.rank, self.worker.world, compress=compress)

    def _decoding(self) -> Decoding:
        decoding = Decoding(max(1, torch.get_num_threads()), self.run.damage)
        if self.run.hw_decoder_load is not None:
            return replace(decoding, hw_load=self.run.hw_decoder_load)
        if self.worker.device_id is None:
            return decoding
        return fastest_decoding(
            self.run,
            self.network,
            self.precision,
            self.shard,
            decoding,
            lambda trial: self._open(trial, epochs=TRIAL),  # of a batch at least
        )

    def train(self) -> bool:
        """Train to the end of the recipe, and return True; or False, where the host asks to stop.

        Raises RunError where the run diverges, and DatasetError where the data is damaged.
        """
        with (
            closing(self.log) if self.log else nullcontext(),
            algorithms(repeatable=self.run.deterministic and self.worker.device_id is not None),
        ):
            return self._train()

    def _train(self) -> bool:
        progress = self.progress
        validated = False
        while not self._over:
            stop = self._train_epoch()
            if progress.position < len(self.dataset.train):
                self._save()
            else:
                progress.epoch, progress.position = progress.epoch + 1, 0
                accuracy, validated = self._evaluate(views=1), True
                progress.errors.append(1 - accuracy.top1 / accuracy.pictures)
                self._save()
            if stop and not self._over:
                return False
        if not validated:  # another process took the last step
            self._evaluate(views=1)
        self._evaluate(views=10)
        return True

    @property
    def _over(self) -> bool:
        """Whether all epochs are trained, or too many since the best; the same on all workers."""
        recipe, progress = self.run.recipe, self.progress
        stalled = recipe.stop_after and progress.epochs_since_best >= recipe.stop_after
        return progress.epoch >= recipe.epochs or bool(stalled and not progress.position)

    def _train_epoch(self) -> bool:
        """Train from where the run stands to the end of its epoch; returns whether it was asked to
        stop, there or on the way."""
        progress, recipe, samples = self.progress, self.run.recipe, len(self.dataset.train)
        whole_batch = min(recipe.batch, samples)  # more would be padding
        if progress.epoch >= self.run.conv1_until:
            self.parallel.freeze("conv1")
        window, batches, began = Window(), self._batches, progress.position
        while True:
            batches.keep_pace()
            asked = time.monotonic()
            batch = next(batches)
            window.wait_s += time.monotonic() - asked
            if self.log and progress.position == began:
                self.log.images(batch.image_NCHW, self.mean_3HW, progress.step)
            real = min(whole_batch, samples - progress.position)
            first, _, _ = share(samples, progress.position, whole_batch, self.shard)
            learning_rate = self._set_learning_rates(samples, whole_batch)
            window.counts_3 += train_step(
                self.parallel.model,
                self.optimizer,
                batch,
                StepPosition(
                    recipe.seed, progress.epoch, progress.position, real, first - progress.position
                ),
                world=self.parallel.count,
                precision=self.precision,
                micro_batch=self.run.micro_batch,
                class_weight_K=self.class_weight_K,
            )
            progress.position += real
            progress.step += 1
            window.steps += 1
            if window.steps >= self.exchange_every or progress.position == samples:
                interval = self._exchange(window, batches.replaced, learning_rate)
                window = Window()
                if interval.stop or progress.position == samples:
                    return interval.stop
                if interval.save:
                    self._save()

    @cached_property
    def _batches(self) -> Batches:
        """The batches of all epochs to come."""
        return self._open(self.decoding, self.run.recipe.epochs - self.progress.epoch)

    def _open(self, decoding: Decoding, epochs: int) -> Batches:
        progress, recipe = self.progress, self.run.recipe
        return train_batches(
            self.dataset,
            self.shard,
            decoding,
            seed=recipe.seed,
            epoch=progress.epoch,
            start=progress.position,
            epochs=epochs,
            batch=min(recipe.batch, len(self.dataset.train)),
            crop=recipe.network.crop,
            balanced=recipe.balance == "sampling",
            ordering=recipe.order,
            cropping=recipe.crops,
            mirrors=recipe.mirrors,
            mean=recipe.mean,
            colour_until=self.run.colour_until,
            # On a CPU converting to 16 bits takes longer than it saves.
            output="float16"
            if self.precision == "bf16" and self.worker.device_id is not None
            else "float32",
        )

    def _set_learning_rates(self, samples: int, whole_batch: int) -> float:
        """Set what the schedule has for the next step; returns the weights' learning rate."""
        progress, recipe = self.progress, self.run.recipe
        epochs = progress.epoch + progress.position / samples
        factor = recipe.schedule.at(epochs / recipe.epochs, progress.errors)
        learning_rate = recipe.rate
        if epochs < recipe.warmup:
            learning_rate *= min(1, (epochs + whole_batch / samples) / recipe.warmup)
        self.optimizer.set_learning_rates(
            learning_rate * factor.weights, BIAS_FACTOR * learning_rate * factor.biases
        )
        return learning_rate * factor.weights

    def _exchange(self, window: Window, replaced: int, learning_rate: float) -> Interval:
        """What all workers counted in the window and ask for, the same on each. Raises RunError if
        the run has diverged."""
        assert isinstance(window.counts_3, Tensor)
        counts = window.counts_3.tolist()  # waits for a GPU to be done
        elapsed_s = time.monotonic() - window.began
        loss_sum, right, samples = counts if self.parallel.counts else (0.0, 0, 0)
        leads = self.worker.rank == 0
        pace = min(MOST_STEPS, max(1, round(INTERVAL_S * window.steps / elapsed_s)))
        due = time.monotonic() - self.saved_at >= self.run.save_every
        interval = Interval(
            loss_sum=loss_sum,
            right=int(right),
            samples=int(samples),
            replaced=replaced if self.parallel.counts else 0,
            waiting=window.wait_s / elapsed_s / self.worker.world,
            squared_norm=self._squared_norm() if self.parallel.index == 0 else 0.0,
            exchange_every=pace if leads else 0,
            stop=leads and self.host.asked_to_stop(),
            save=self.host.preempted() or (leads and due),
        ).summed(self.worker.world, self.worker.device)
        self.exchange_every = interval.exchange_every
        progress = self.progress
        if not isfinite(interval.loss_sum):
            kept = f"step {self.saved_step}" if self.saved_step is not None else "none"
            raise RunError(
                f"the loss is {interval.loss_sum} at step {progress.step}: the run has diverged "
                f"(last good checkpoint: {kept}); start again under another --name with a lower "
                "learning rate (--set rate=...) or another --seed"
            )
        if self.log:
            self.log.train(
                epoch=progress.epoch + progress.position / len(self.dataset.train),
                step=progress.step,
                rate=learning_rate,
                loss=interval.loss_sum / interval.samples,
                top1=interval.right / interval.samples,
                samples=interval.samples,
                workers=self.worker.world,
                gradient_norm=interval.squared_norm**0.5,
                images_per_s=interval.samples / elapsed_s,
                wait=interval.waiting,
                replaced=interval.replaced,
            )
        return interval

    def _squared_norm(self) -> float:
        gradients = [p.grad for p in self.parallel.module.parameters() if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients).item() ** 2

    def _evaluate(self, views: int) -> Accuracy:
        self._gather_network()
        accuracy = self.validator(
            self.network, self.mean_3HW, views=views, precision=self.precision
        )
        if self.log:
            self.log.val(accuracy, epoch=self.progress.epoch, step=self.progress.step)
            self.log.kernels(self.network.conv1.weight, self.progress.step)
        return accuracy

    def _gather_network(self) -> None:
        """Bring the whole network up to what the workers have learnt."""
        if self.parallel.module is not self.network:
            self.network.load_state_dict(self.parallel.gather(self.parallel.module.state_dict()))

    def _save(self) -> None:
        self._gather_network()
        velocity = self.parallel.gather(self.optimizer.velocity())
        self.saved_step, self.saved_at = self.progress.step, time.monotonic()
        saved = Saved(
            progress=self.progress,
            weights=self.network.state_dict(),
            velocity=velocity,
            learning_rates=self.optimizer.learning_rates,
        )
        brought = saved if self.worker.rank == 0 else None
        if self.log:  # or a run that goes on from here would have a gap
            self.log.keep()
        self.host.save(brought, self.progress.step, self.progress.score)
