"""alexnet evaluate: published models, alone and together, on images held out.

Probabilities first, scores after: the counts are a function of (probabilities, labels). Batches
hold the same images for any number of workers, and with the same number of threads each gives
the same bits; other numbers of threads may move the last of them.
"""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from alexnet import checkpoint
from alexnet.checkpoint import About
from alexnet.command import UserError
from pipeline.cluster import cluster
from pipeline.dataset import Dataset
from trainer.evaluation.ensemble import mixtures
from trainer.evaluation.labels import labels_of
from trainer.evaluation.originals import list_originals
from trainer.evaluation.probabilities import (
    Answers,
    EvaluationImages,
    Validation,
    ask,
    assemble,
)
from trainer.evaluation.results import Kind, ModelName, Results, section
from trainer.on_ray.probe import usable_resources
from trainer.on_ray.workers import Workers


class Model(NamedTuple):
    directory: Path
    """The directory of a step, so that all workers load the same."""
    about: About


class TestSet(NamedTuple):
    """What the models are asked."""

    kind: Kind
    place: Path
    images: EvaluationImages
    label_N: np.ndarray
    packed_N: np.ndarray | None = None
    """Which image of the first test set each one was packed as."""


def evaluate_models(
    directories: Sequence[Path],
    data: Path | None,
    originals: Path | None,
    *,
    views: Sequence[int],
    search: bool,
    workers: int | None,
    device: str,
) -> Results:
    """Ask each model about the validation images of `data`, about `originals`, or both.

    Raises UserError where models, dataset and folder do not belong together.
    """
    models = [_open(directory) for directory in directories]
    about = models[0].about
    for other in models[1:]:
        _check_classes(models[0], other)
        _check_size(models[0], str(other.directory), other.about.size)
        if other.about.rule != about.rule:
            raise UserError(
                f"{models[0].directory} and {other.directory} resize photographs differently "
                f"({about.rule}; {other.about.rule}); evaluate them one at a time"
            )
    if search and len(models) < 2:
        raise UserError("--search-weights needs several models, but one is given; name more")
    if search and len(about.classes) <= 5:
        raise UserError(
            "--search-weights lowers the top-5 error, which is always 0 with "
            f"{len(about.classes)} classes; leave it out"
        )
    dataset = Dataset(data) if data else None
    test_sets = _test_sets(models[0], dataset, originals)
    answers = _answers(test_sets, models, views, workers, device)

    # The search of 2012 read what `--test-out` wrote: ten views, where they were asked for.
    label_N, probability_MNK = test_sets[0].label_N, answers[0].probability_MVNK[:, -1]
    names = [f"{model.about.name}, step {model.about.step}" for model in models]
    rows = mixtures(names, probability_MNK, torch.from_numpy(label_N), search)
    return Results(
        models=tuple(
            ModelName(
                name=model.about.name,
                step=model.about.step,
                sha256=model.about.weights_sha256,
                directory=model.directory,
                trained_on=model.about.dataset,
            )
            for model in models
        ),
        views=tuple(views),
        dataset=dataset.digest if dataset else None,
        duplicates=dataset.manifest.duplicates if dataset else None,
        sections=tuple(
            section(
                test_set.kind,
                test_set.place,
                answer,
                torch.from_numpy(test_set.label_N),
                mixtures=rows,
                views=views,
                classes=about.classes,
                packed_MVNK=None
                if test_set.packed_N is None
                else answers[0].probability_MVNK[:, :, test_set.packed_N],
            )
            for test_set, answer in zip(test_sets, answers, strict=True)
        ),
    )


def _open(directory: Path) -> Model:
    step = checkpoint.current(directory).absolute()
    return Model(step, checkpoint.load(step).about)


def _check_classes(model: Model, other: Model) -> None:
    ours, theirs = ([label.id for label in each.about.classes] for each in (model, other))
    for number, (our, their) in enumerate(zip_longest(ours, theirs, fillvalue="missing")):
        if our != their:
            raise UserError(
                f"{model.directory} and {other.directory} have different classes: class {number} "
                f"is {our} in the first, {their} in the second; both must come from the same class "
                "folders"
            )


def _check_size(model: Model, what: str, size: int) -> None:
    if size != model.about.size:
        raise UserError(
            f"{model.directory} takes images of {model.about.size} x {model.about.size} pixels, "
            f"but {what} is made for {size} x {size}; both must have the same --size"
        )


def _test_sets(model: Model, dataset: Dataset | None, originals: Path | None) -> list[TestSet]:
    test_sets = []
    if dataset:
        manifest, place = dataset.manifest, dataset.directory
        _check_size(model, str(place), manifest.size)
        label_K = labels_of([c.id for c in manifest.classes], place, model.about.classes)
        label_N = label_K[dataset.val.label(np.arange(len(dataset.val)))]
        test_sets.append(TestSet("packed", place, Validation(place.absolute()), label_N))
    if originals:
        listed = list_originals(originals, model.about, dataset)
        test_sets.append(TestSet("served", originals, *listed))
    if not test_sets:
        raise UserError(
            "there is nothing to evaluate on; give --data DATASET, --originals FOLDER, or both"
        )
    return test_sets


def _answers(
    test_sets: Sequence[TestSet],
    models: Sequence[Model],
    views: Sequence[int],
    workers: int | None,
    device: str,
) -> list[Answers]:
    """What all models answer to each test set."""
    directories, classes = [m.directory for m in models], len(models[0].about.classes)
    with cluster():
        team = Workers.of(usable_resources(device), workers, device)
        return [
            assemble(
                ask(test_set.images, directories, views, team),
                len(test_set.images),
                classes=classes,
                models=len(models),
                views=len(views),
            )
            for test_set in test_sets
        ]
