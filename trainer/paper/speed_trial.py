"""How fast this machine trains, by the product's own loop: images decoded, learnt from, all in."""

import json
import shutil
import time
from collections.abc import Iterable, Mapping

import torch

from pipeline.dataset import Dataset
from trainer.arguments import Device, Train
from trainer.loop.loop import Loop, Worker
from trainer.on_ray.resources import Machine, Resources
from trainer.paper import evidence
from trainer.paper.experiment import Place, Result, Row, Settings
from trainer.paper.network_trial import BASE, Changes, Folder, recipe_fields
from trainer.plan import make_run
from trainer.recipe import Recipe
from trainer.resolution import resolve
from trainer.run import Run, open_run

WARM_UP = 3
"""Exchanges, about a second each, that are not counted."""

ENDLESS = 10**6
"""Epochs, of which the clock ends one."""


def speed_row(changes: Changes, seconds: float, machine: Settings, dataset: Dataset) -> Row:
    """A training of so many seconds on this `machine`, which the result depends on."""
    settings = {
        "dataset": dataset.digest,
        "recipe": recipe_fields(resolve(BASE, {}, list(changes.items()))),
        "seconds": seconds,
        "machine": machine,
    }
    return Row(evidence.described(machine), measure_training, settings, dataset.place.absolute())


def trained_on(device: Device) -> Settings:
    """This machine, with the one GPU that a row takes, if any."""
    whole = evidence.machine()
    return {**whole, "gpus": [] if device == "cpu" else whole["gpus"][:1]}


def measure_training(settings: Settings, place: Place) -> Result:
    """Train on one GPU, or on all cores, and leave nothing behind; returns the images per second
    and the part of the time that was spent on waiting for them."""
    threads = settings["machine"]["cores"]
    torch.set_num_threads(threads)
    options = Train(
        data=place.data, name=f"speed-{time.time_ns()}", runs=place.work / "runs",
        workers=(1, 1), device="gpu" if place.gpu else "cpu",
    )  # fmt: skip
    machine = Resources((Machine(threads, int(place.gpu)),))
    recipe = Recipe.model_validate(settings["recipe"] | {"epochs": ENDLESS})
    run = open_run(make_run(options, recipe, Dataset(place.data), None, machine), "if-any")
    device = torch.device("cuda:0" if place.gpu else "cpu")
    try:
        with run.held():
            Loop(run, Worker(0, 1, device), Stopwatch(run, settings["seconds"])).train()
        lines = [json.loads(line) for line in run.folder.metrics()]
    finally:
        shutil.rmtree(run.directory)
    return rate([line for line in lines if line["kind"] == "train"][WARM_UP:])


def rate(lines: Iterable[Mapping[str, float]]) -> Result:
    """Of events of training, each over the time that its own images took: validation is in none."""
    windows = [(e["samples"], e["samples"] / e["images_per_s"], e["wait"]) for e in lines]
    samples, seconds = (sum(window[n] for window in windows) for n in (0, 1))
    waited = sum(wait * elapsed for _, elapsed, wait in windows)
    return {"images": samples, "seconds": seconds, "waiting": waited / seconds}


class Stopwatch(Folder):
    """Ends a run so many seconds after the exchanges of its warm-up."""

    def __init__(self, run: Run, seconds: float) -> None:
        super().__init__(run)
        self._seconds, self._exchanges, self._began = seconds, 0, 0.0

    def asked_to_stop(self) -> bool:
        self._exchanges += 1
        if self._exchanges <= WARM_UP:
            self._began = time.monotonic()
        return time.monotonic() - self._began >= self._seconds
