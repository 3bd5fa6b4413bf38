"""One training of the network by the product's own loop, in the process of a row."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from alexnet.checkpoint import current, load, read_about
from pipeline.dataset import Dataset
from trainer.arguments import Train
from trainer.loop.loop import Loop, Worker
from trainer.loop.state import Saved, read
from trainer.on_ray.resources import Machine, Resources
from trainer.paper.colour import colourfulness
from trainer.paper.experiment import Found, Place, Result, Row, Settings
from trainer.plan import make_run
from trainer.publishing.publish import publish
from trainer.recipe import Recipe, Start, resolve
from trainer.run import Run, RunError, open_run

BASE = "small"
"""The recipe that rows change."""
Changes = Mapping[str, Any]
"""Fields of the recipe, dotted, and their values."""
SIZES: Mapping[str, Changes] = {
    "quick": {"size": 72, "network.crop": 64, "network.width": 0.25, "epochs": 1},
    "full": {"size": 72, "network.crop": 64, "network.width": 0.5, "epochs": 12},
}


def network_row(name: str, changes: Changes, seed: int, dataset: Dataset) -> Row:
    """The training of a network on `dataset` by the recipe with these changes."""
    settings = {"dataset": dataset.digest, "recipe": {**changes, "seed": seed}}
    return Row(f"{name}, seed {seed}", train_network, settings, dataset.directory.absolute())


def train_network(settings: Settings, place: Place) -> Result:
    """Train and publish a network; returns its name, how many validation images it gets right by
    one view and by ten, and how colourful its kernels are. Where a process was killed, this goes on
    from its last checkpoint."""
    return train(settings, place, resolve(BASE, {}, list(settings["recipe"].items())), None)


def train(settings: Settings, place: Place, recipe: Recipe, start: Start | None) -> Result:
    """`train_network` by any recipe, and where there is a `start`, from its weights."""
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    device = "gpu" if place.gpu else "cpu"
    options = Train(
        data=place.data, name=name, runs=place.work / "runs", models=place.work / "models",
        workers=(1, 1), device=device,
    )  # fmt: skip
    machine = Resources((Machine(place.threads, int(place.gpu)),))
    run = open_run(make_run(options, recipe, Dataset(place.data), start, machine), "if-any")
    host = Folder(run)
    with run.held():
        worker = Worker(0, 1, torch.device("cuda:0" if place.gpu else "cpu"))
        if not Loop(run, worker, host).train():
            raise RunError(f"{run.stop}: the row was asked to stop; the same command goes on")
        model = publish(run, host.checkpoint, options.models)
    shutil.rmtree(run.directory)
    return {
        "model": name,
        "accuracy": [
            score.model_dump(include={"views", "pictures", "top1", "top5"})
            for score in read_about(model).accuracy
        ],
        "colourfulness": colourfulness(load(model).model.conv1.weight.detach().numpy()).tolist(),
    }


def published(row: Row, found: Found, models: Path) -> Path:
    """The network that a finished row has left in the folder `models`, as models/NAME/STEP. Raises
    RunError where it is not there."""
    result = found(row)
    assert result is not None
    if not (folder := models / result["model"]).exists():
        raise RunError(
            f"{folder}: this trained network is needed, but is not there; give the --work that it "
            f"was trained in, or delete rows/{row.key}.json in the folder of --out, and it is "
            "trained again"
        )
    return current(folder)


class Folder:
    """What `trainer.loop.loop.Host` asks for: the last checkpoint, in the run's folder."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.checkpoint = run.directory / "checkpoint"

    def restore(self) -> Saved | None:
        return read(self.checkpoint) if self.checkpoint.exists() else None

    def save(self, saved: Saved | None, step: int, top1: float) -> None:
        """A process that is killed in between leaves no checkpoint, and the run begins anew."""
        assert saved is not None
        new = self._run.directory / "checkpoint.partial"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        saved.write(new)
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        new.rename(self.checkpoint)

    def preempted(self) -> bool:
        return False

    def asked_to_stop(self) -> bool:
        return self._run.stop.exists()
