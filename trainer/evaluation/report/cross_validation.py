"""What networks say of training images that they have not seen: cross-validation.

Shapes: N training images, K classes.
"""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from alexnet import atomic
from alexnet.checkpoint import About
from alexnet.command import UserError
from alexnet.home import home
from pipeline.dataset import Dataset
from pipeline.folds import fold_of, write_fold
from trainer.arguments import Device, Train
from trainer.evaluation.probabilities import Validation, ask, assemble
from trainer.on_ray.launch import launch
from trainer.on_ray.probe import usable_resources
from trainer.on_ray.workers import Workers
from trainer.plan import make_run
from trainer.publishing.publish import publish
from trainer.recipe import Recipe
from trainer.run import open_run

FOLDS = "folds"
"""Below the folder of a report."""


def recipe_of(about: About) -> Recipe:
    """The recipe that a model was trained by, from random weights. Raises UserError."""
    try:
        recipe = Recipe.model_validate(about.recipe)
    except ValidationError:
        recipe = None
    if recipe is None or recipe.name == "finetune" or recipe.folded or recipe.freeze:
        how = "was imported" if recipe is None else "was trained on from another model's weights"
        raise UserError(
            f"--folds trains networks as {about.name} was, but this {how}; give a model "
            "that `alexnet train --recipe small` made of the same dataset, or leave --folds out"
        )
    return recipe


def out_of_sample(
    folder: Path,
    recipe: Recipe,
    dataset: Dataset,
    folds: int,
    *,
    views: int,
    device: Device,
    team: Workers,
) -> np.ndarray:
    """The probabilities of all training images of a packed dataset, (N, K) float32, a memory map;
    each by a network that was trained by `recipe` without that image's fold.

    Within a `cluster`. Every network is trained as by `alexnet train`. What is finished is kept
    below `folder`: interrupted and run again, this goes on. Raises UserError, also where it was
    asked to stop.
    """
    home()  # Ray Train looks for it, and says less where there is none
    what = json.dumps([recipe.model_dump(mode="json"), dataset.digest, folds, views])
    here = folder / FOLDS / hashlib.sha256(what.encode()).hexdigest()[:12]
    here.mkdir(parents=True, exist_ok=True)
    fold_N = fold_of(dataset, folds)
    classes = len(dataset.manifest.classes)
    for fold in range(folds):
        if not (here / f"{fold}.npy").exists():
            left_out_N = np.flatnonzero(fold_N == fold)
            told = f"fold {fold + 1} of {folds}: training without {len(left_out_N):,} of the images"
            print(told, file=sys.stderr, flush=True)
            _judge(here, fold, recipe, write_fold(dataset, here / f"{fold}", left_out_N),
                   views=views, device=device, team=team)  # fmt: skip
    whole = np.lib.format.open_memmap(here / "all.npy", "w+", np.float32, (len(fold_N), classes))
    for fold in range(folds):
        whole[fold_N == fold] = np.load(here / f"{fold}.npy")
    return whole


def _judge(
    here: Path,
    fold: int,
    recipe: Recipe,
    data: Dataset,
    *,
    views: int,
    device: Device,
    team: Workers,
) -> None:
    """Train a network on a fold's dataset, and keep what it says of the validation images."""
    options = Train(
        data=data.directory, name=f"fold{fold}", runs=here / "runs", models=here / "models",
        device=device,
    )  # fmt: skip
    run = open_run(make_run(options, recipe, data, None, usable_resources(device)), "if-any")
    outcome = launch(run)
    if not outcome.finished:
        raise UserError(f"stopped while fold {fold} was trained; the same command goes on there")
    model = publish(run, outcome.checkpoint, options.models).absolute()
    found = assemble(
        ask(Validation(data.directory.absolute()), [model], [views], team),
        len(data.val),
        classes=len(data.manifest.classes),
        models=1,
        views=1,
    )
    atomic.write_array(here / f"{fold}.npy", found.probability_MVNK[0, 0].numpy())
    for done in (run.directory, options.models / run.name, data.directory):
        shutil.rmtree(done)
