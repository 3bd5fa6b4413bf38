"""What networks say of training images that they have not seen: cross-validation.

Shapes: N training images, K classes.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from alexnet import atomic
from alexnet.checkpoint import About
from alexnet.command import UserError
from alexnet.home import home
from alexnet.store.models import pinned, read_about
from alexnet.store.url import Place
from pipeline.dataset import Dataset
from pipeline.folds import fold_of, write_fold
from trainer.arguments import Device, Train
from trainer.evaluation.probabilities import Validation, ask, assemble
from trainer.on_ray.launch import launch
from trainer.on_ray.probe import usable_resources
from trainer.on_ray.workers import Workers
from trainer.plan import make_run, starting_model
from trainer.publishing.publish import publish
from trainer.recipe import Recipe, Start
from trainer.run import open_run

FOLDS = "folds"
"""Below the folder of a report."""


class Training(NamedTuple):
    """How a model was trained, and so are the networks that judge its training images."""

    recipe: Recipe
    start: Start | None
    """Where the weights come from; None: from chance."""


def training_of(about: About, dataset: Dataset, init_from: Place | None) -> Training:
    """How a model was trained, where it was fine-tuned from the published model `init_from`. Raises
    UserError where that is not told, or cannot be."""
    try:
        recipe = Recipe.model_validate(about.recipe)
    except ValidationError:
        raise UserError(
            f"--folds trains networks as {about.name} was, but this was imported; give a model "
            "that `alexnet train` made of the same dataset, or leave --folds out"
        ) from None
    if init_from is None:
        if recipe.name == "finetune" or recipe.folded or recipe.freeze:
            raise UserError(
                f"--folds trains networks as {about.name} was, but this was fine-tuned; give "
                "--init-from with the model that it started from, or leave --folds out"
            )
        return Training(recipe, None)
    start = starting_model(Train(data=dataset.place, name="fold", init_from=init_from))
    if start and (fields := list(start.differences(recipe.network))):
        raise UserError(
            f"--init-from {init_from}: {about.name} was not fine-tuned from this model, whose "
            f"network differs in {', '.join(fields)}; give the one that it started from"
        )
    return Training(recipe, start)


def out_of_sample(
    folder: Path,
    training: Training,
    dataset: Dataset,
    folds: int,
    *,
    views: int,
    device: Device,
    team: Workers,
) -> np.ndarray:
    """The probabilities of all training images of a packed dataset, (N, K) float32, a memory map;
    each by a network that was trained as `training` says without that image's fold.

    Within a `cluster`. Every network is trained as by `alexnet train`. What is finished is kept
    below `folder`: interrupted and run again, this goes on. Raises UserError, also where it was
    asked to stop.
    """
    home()  # Ray Train looks for it, and says less where there is none
    what = [training.recipe.model_dump(mode="json"), dataset.digest, folds, views]
    if training.start:
        what.append(read_about(training.start.model).weights_sha256)
    here = folder / FOLDS / hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]
    here.mkdir(parents=True, exist_ok=True)
    fold_N = fold_of(dataset, folds)
    classes = len(dataset.manifest.classes)
    for fold in range(folds):
        if not (here / f"{fold}.npy").exists():
            left_out_N = np.flatnonzero(fold_N == fold)
            told = f"fold {fold + 1} of {folds}: training without {len(left_out_N):,} of the images"
            print(told, file=sys.stderr, flush=True)
            _judge(here, fold, training, write_fold(dataset, here / f"{fold}", left_out_N),
                   views=views, device=device, team=team)  # fmt: skip
    whole = np.lib.format.open_memmap(here / "all.npy", "w+", np.float32, (len(fold_N), classes))
    for fold in range(folds):
        whole[fold_N == fold] = np.load(here / f"{fold}.npy")
    return whole


def _judge(
    here: Path,
    fold: int,
    training: Training,
    data: Dataset,
    *,
    views: int,
    device: Device,
    team: Workers,
) -> None:
    """Train a network on a fold's dataset, and keep what it says of the validation images."""
    options = Train(
        data=data.place, name=f"fold{fold}", runs=here / "runs", models=here / "models",
        device=device,
    )  # fmt: skip
    found = usable_resources(device)
    run = open_run(make_run(options, training.recipe, data, training.start, found), "if-any")
    outcome = launch(run)
    if not outcome.finished:
        raise UserError(f"stopped while fold {fold} was trained; the same command goes on there")
    model = pinned(publish(run, outcome.checkpoint, options.models))
    judged = assemble(
        ask(Validation(data.place.absolute()), [model], [views], team),
        len(data.val),
        classes=len(data.manifest.classes),
        models=1,
        views=1,
    )
    atomic.write_array(here / f"{fold}.npy", judged.probability_MVNK[0, 0].numpy())
    for done in (run.directory, options.models / run.name, data.folder):
        shutil.rmtree(done)
