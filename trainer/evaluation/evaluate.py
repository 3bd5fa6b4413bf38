"""alexnet evaluate: published models, alone and together, on images held out.

Probabilities first, scores after: the counts are a function of (probabilities, labels). Batches
hold the same images for any number of workers, and with the same number of threads each gives
the same bits; other numbers of threads may move the last of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from alexnet.checkpoint import About
from alexnet.command import UserError
from alexnet.store.models import keep_calibrations, load, pinned
from alexnet.store.url import Place
from pipeline.cluster import cluster
from pipeline.dataset import Dataset
from trainer.arguments import Device
from trainer.evaluation.calibration import Asked, Fit, answers, calibrate
from trainer.evaluation.ensemble import check_search, mixtures
from trainer.evaluation.labels import check_classes, labels_of
from trainer.evaluation.originals import Labels, list_originals
from trainer.evaluation.probabilities import (
    Answers,
    EvaluationImages,
    Validation,
    ask,
    assemble,
)
from trainer.evaluation.report import page
from trainer.evaluation.report.cross_validation import out_of_sample, training_of
from trainer.evaluation.results import Kind, ModelName, Results, section
from trainer.evaluation.saved import Origin, Saved
from trainer.on_ray.probe import usable_resources
from trainer.on_ray.workers import Workers


class Model(NamedTuple):
    directory: Place
    """The folder or the URL of a step, so that all workers load the same."""
    about: About


class TestSet(NamedTuple):
    """What the models are asked."""

    kind: Kind
    place: Place
    images: EvaluationImages
    label_N: np.ndarray
    packed_N: np.ndarray | None = None
    """Which image of the first test set each one was packed as."""


def evaluate_models(
    directories: Sequence[Place],
    data: Place | None,
    originals: Path | None,
    *,
    views: Sequence[int],
    search: bool,
    workers: int | None,
    device: Device,
    calibrated: bool = False,
    target_precision: float | None = None,
    report: Path | None = None,
    folds: int | None = None,
    init_from: Place | None = None,
    save: Path | None = None,
    labels: Labels | None = None,
) -> Results:
    """Ask each model about the validation images of `data`, about `originals`, or both; what
    these are of, `labels` may say.

    Where they are to be calibrated, each is by its answers about the validation images, for each
    number of views, and keeps what is found before the rest is asked. A `report` is a folder for a
    page about one model and the validation images; with `folds` also about the training images, as
    so many networks see them that are trained without a part of them, where the model was
    fine-tuned from the published model `init_from`. `save` is a file for what
    one model says of one set of images. Raises UserError where models, dataset and folder do not
    belong together.
    """
    models = [_open(directory) for directory in directories]
    about = models[0].about
    for other in models[1:]:
        check_classes(models[0].directory, about.classes, other.directory, other.about.classes)
        _check_size(models[0], str(other.directory), other.about.size)
        if other.about.rule != about.rule:
            raise UserError(
                f"{models[0].directory} and {other.directory} resize photographs differently "
                f"({about.rule}; {other.about.rule}); evaluate them one at a time"
            )
    check_search(search, len(models), len(about.classes))
    dataset = Dataset(data) if data else None
    if target_precision and not calibrated:
        raise UserError("--target-precision is found by --calibrate; give that as well")
    if calibrated and (dataset is None or len(dataset.val) < 2):
        raise UserError(
            "--calibrate fits the probabilities to validation images, of which it needs two or "
            "more; give --data DATASET"
        )
    _check_report(models, dataset, report, folds)
    training = training_of(about, dataset, init_from) if dataset and folds else None
    if report:
        page.make_folder(report)
    test_sets = _test_sets(models[0], dataset, originals, labels)
    if save and (len(models) > 1 or len(test_sets) > 1):
        raise UserError(
            "--save-probabilities is about one model and one set of images; give one MODEL, and "
            "either --data or --originals"
        )
    fits: tuple[Fit, ...] = ()
    found: list[Answers] = []
    with cluster():
        team = Workers.of(usable_resources(device), workers, device)
        if calibrated and dataset:
            fits, answer = _calibrated(
                models, test_sets[0], dataset.digest, views, team, target_precision
            )
            found.append(answer)
        for test_set in test_sets[len(found) :]:
            found.append(_asked(models, test_set, views, team))
        trained = None
        if report and dataset and folds and training:
            trained = page.Trained(
                out_of_sample(
                    report, training, dataset, folds,
                    views=max(views), device=device, team=team,
                ),
                folds,
            )  # fmt: skip

    # The search of 2012 read what `--test-out` wrote: ten views, where they were asked for.
    label_N, probability_MNK = test_sets[0].label_N, found[0].probability_MVNK[:, -1]
    named = tuple(map(_named, models))
    titles = [each.title for each in named]
    rows = mixtures(titles, probability_MNK, torch.from_numpy(label_N), search)
    results = Results(
        models=named,
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
                else found[0].probability_MVNK[:, :, test_set.packed_N],
            )
            for test_set, answer in zip(test_sets, found, strict=True)
        ),
        calibrations=fits,
    )
    if save:
        _saved(models[0], test_sets[0], found[0], views, dataset).write(save)
    if report and dataset:
        (model,) = models
        page.write(
            report,
            results,
            load(model.directory).about,  # with the calibration of just now
            dataset,
            probability_MNK[0],
            torch.from_numpy(label_N),
            trained,
        )
    return results


def _check_report(
    models: Sequence[Model], dataset: Dataset | None, report: Path | None, folds: int | None
) -> None:
    if report is None:
        if folds:
            raise UserError("--folds judges training images for a page; give --report FOLDER too")
        return
    if len(models) > 1:
        raise UserError(
            f"--report is about one model, but {len(models)} are given; report on one at a time"
        )
    if dataset is None:
        raise UserError("--report is about the images of a dataset; give --data DATASET")
    if folds and dataset.manifest.original:
        raise UserError(
            f"{dataset.place}: this dataset lists photographs that were not packed; pack "
            "them, or leave --folds out"
        )


def _open(directory: Place) -> Model:
    step = pinned(directory)
    return Model(step, load(step).about)


def _named(model: Model) -> ModelName:
    return ModelName(
        name=model.about.name,
        step=model.about.step,
        sha256=model.about.weights_sha256,
        directory=model.directory,
        trained_on=model.about.dataset,
    )


def _check_size(model: Model, what: str, size: int) -> None:
    if size != model.about.size:
        raise UserError(
            f"{model.directory} takes images of {model.about.size} x {model.about.size} pixels, "
            f"but {what} is made for {size} x {size}; both must have the same --size"
        )


def _test_sets(
    model: Model, dataset: Dataset | None, originals: Path | None, labels: Labels | None
) -> list[TestSet]:
    test_sets = []
    if dataset:
        manifest, place = dataset.manifest, dataset.place
        _check_size(model, str(place), manifest.size)
        label_K = labels_of({c.id: place / c.id for c in manifest.classes}, model.about.classes)
        label_N = label_K[dataset.val.label(np.arange(len(dataset.val)))]
        test_sets.append(TestSet("packed", place, Validation(place.absolute()), label_N))
    if originals:
        listed = list_originals(originals, model.about, dataset, labels)
        test_sets.append(TestSet("served", originals, *listed))
    if not test_sets:
        raise UserError(
            "there is nothing to evaluate on; give --data DATASET, --originals FOLDER, or both"
        )
    return test_sets


def _saved(
    model: Model,
    test_set: TestSet,
    answers: Answers,
    views: Sequence[int],
    dataset: Dataset | None,
) -> Saved:
    return Saved(
        Origin(
            model=_named(model),
            kind=test_set.kind,
            place=test_set.place,
            dataset=dataset.digest if dataset else None,
            duplicates=dataset.manifest.duplicates if dataset else None,
            refused=answers.refused,
        ),
        model.about.classes,
        np.array(test_set.images.names()),
        test_set.label_N,
        dict(zip(views, answers.probability_MVNK[0].numpy(), strict=True)),
    )


def _asked(
    models: Sequence[Model],
    test_set: TestSet,
    views: Sequence[int],
    team: Workers,
    logits: bool = False,
) -> Answers:
    """What all models answer to a test set, or the logits of all views."""
    return assemble(
        ask(test_set.images, [model.directory for model in models], views, team, logits),
        len(test_set.images),
        classes=len(models[0].about.classes),
        models=len(models),
        views=max(views) if logits else len(views),
    )


def _calibrated(
    models: Sequence[Model],
    test_set: TestSet,
    dataset: str,
    views: Sequence[int],
    team: Workers,
    target: float | None,
) -> tuple[tuple[Fit, ...], Answers]:
    """Calibrate each model and keep that with it; also what they answer to the test set then."""
    label_N = torch.from_numpy(test_set.label_N)
    fits: list[Fit] = []
    probability_MVNK = []
    for model, logit_VNK in zip(
        models, _asked(models, test_set, views, team, logits=True).probability_MVNK, strict=True
    ):
        asked = [Asked(logit_VNK, label_N).by(count) for count in views]
        found = [calibrate(_named(model).title, each, dataset, target) for each in asked]
        keep_calibrations(model.directory, [fit.kept for fit in found])
        fits += found
        probability_MVNK.append(
            torch.stack(
                [answers(a, fit.kept.temperature) for a, fit in zip(asked, found, strict=True)]
            )
        )
    return tuple(fits), Answers(torch.stack(probability_MVNK), ())
