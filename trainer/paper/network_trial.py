"""One training of the network by the product's own loop, in the process of a row."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alexnet.checkpoint import current
from alexnet.store.models import load, read_about
from pipeline.dataset import Dataset
from pipeline.folds import fold_of, write_fold
from trainer.arguments import Train
from trainer.loop.loop import Loop, Worker
from trainer.loop.state import Saved, read
from trainer.on_ray.resources import Machine, Resources
from trainer.paper.colour import colourfulness
from trainer.paper.experiment import Found, Place, Result, Row, Settings
from trainer.plan import make_run
from trainer.publishing.publish import publish
from trainer.recipe import Recipe, Start
from trainer.resolution import resolve
from trainer.run import Run, RunError, open_run

BASE = "paper"
"""The recipe that rows change."""
Changes = Mapping[str, Any]
"""Fields of the recipe, dotted, and their values."""
# So few steps need a small batch at the full learning rate, and half a cosine instead of drops.
REDUCED: Changes = {
    "size": 72, "network.crop": 64, "batch": 64, "rate": 0.01, "schedule.kind": "cosine",
}  # fmt: skip
SIZES: Mapping[str, Changes] = {
    "quick": {**REDUCED, "network.width": 0.25, "epochs": 1},
    "full": {**REDUCED, "network.width": 0.5, "epochs": 12},
}


def network_row(
    name: str,
    changes: Changes,
    seed: int,
    dataset: Dataset,
    recipe: str = BASE,
    folds: int | None = None,
) -> Row:
    """The training of a network on `dataset` by the recipe with these changes. With `folds`, the
    validation images are the first of so many parts of the training images, and not trained on."""
    resolved = resolve(recipe, {}, [*changes.items(), ("seed", seed)])
    settings: dict[str, Any] = {"dataset": dataset.digest, "recipe": recipe_fields(resolved)}
    if folds:
        settings["folds"] = folds
    return Row(f"{name}, seed {seed}", train_network, settings, dataset.place.absolute())


def recipe_fields(recipe: Recipe) -> dict[str, Any]:
    """The recipe as JSON. Without defaults, so that a field that is new one day leaves finished
    rows as they are."""
    fields = recipe.model_dump(mode="json", exclude_defaults=True)
    return {**fields, "schedule": recipe.schedule.model_dump(mode="json")}


def recipe_of(row: Row) -> Recipe:
    """What a row trains by."""
    return Recipe.model_validate(row.settings["recipe"])


def train_network(settings: Settings, place: Place) -> Result:
    """Train and publish a network; returns its name, how many validation images it gets right by
    one view and by ten, and how colourful its kernels are. Where a process was killed, this goes on
    from its last checkpoint."""
    return train(settings, place, Recipe.model_validate(settings["recipe"]), None)


def train(settings: Settings, place: Place, recipe: Recipe, start: Start | None) -> Result:
    """`train_network` by any recipe, and where there is a `start`, from its weights."""
    name = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    device = "gpu" if place.gpu else "cpu"
    dataset, fold = Dataset(place.data), place.work / "folds" / name
    if folds := settings.get("folds"):
        dataset = write_fold(dataset, fold, np.flatnonzero(fold_of(dataset, folds) == 0))
    options = Train(
        data=dataset.place, name=name, runs=place.work / "runs", models=place.work / "models",
        workers=(1, 1), device=device,
    )  # fmt: skip
    machine = Resources((Machine(place.threads, int(place.gpu)),))
    run = open_run(make_run(options, recipe, dataset, start, machine), "if-any")
    host = Folder(run)
    with run.held():
        worker = Worker(0, 1, torch.device("cuda:0" if place.gpu else "cpu"))
        if not Loop(run, worker, host).train():
            raise RunError(f"{run.stop}: the row was asked to stop; the same command goes on")
        model = publish(run, host.checkpoint, options.models)
    shutil.rmtree(run.directory)
    shutil.rmtree(fold, ignore_errors=True)
    return {
        "model": name,
        "accuracy": [
            score.model_dump(include={"views", "pictures", "top1", "top5"})
            for score in read_about(model).accuracy
        ],
        "colourfulness": colourfulness(load(model).model.conv1.weight.detach().numpy()).tolist(),
    }


def accuracy(found: Found, row: Row, which: str, views: int) -> float:
    """Of the network of a row that was found, in percent; `which` is top1 or top5."""
    result = found(row)
    assert result is not None
    (score,) = (score for score in result["accuracy"] if score["views"] == views)
    return 100 * float(score[which] / score["pictures"])


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
        self._folder = Path(run.directory)
        self.checkpoint = self._folder / "checkpoint"

    def restore(self) -> Saved | None:
        return read(self.checkpoint) if self.checkpoint.exists() else None

    def save(self, saved: Saved | None, step: int, top1: float) -> None:
        """A process that is killed in between leaves no checkpoint, and the run begins anew."""
        assert saved is not None
        new = self._folder / "checkpoint.partial"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        saved.write(new)
        shutil.rmtree(self.checkpoint, ignore_errors=True)
        new.rename(self.checkpoint)

    def preempted(self) -> bool:
        return False

    def asked_to_stop(self) -> bool:
        return (self._folder / "stop").exists()
