"""`alexnet evaluate --report FOLDER`: one HTML page that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Template
from torch import Tensor

from alexnet import atomic
from alexnet.checkpoint import About
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from pipeline.dataset import Dataset
from pipeline.split import Split
from trainer import pages
from trainer.evaluation.report import drawings, suspect_table
from trainer.evaluation.report.album import Thumbnail, data_uri, thumbnails
from trainer.evaluation.report.duplicates import DISTANCE, SIDE, find_duplicates
from trainer.evaluation.report.mistakes import confident_mistakes
from trainer.evaluation.report.suspects import Suspects, suspects
from trainer.evaluation.report.tallies import confusion_KK, tally, wilson
from trainer.evaluation.results import Results
from trainer.evaluation.scores import reliability

PAGE = "index.html"
SUSPECTED = "suspects.csv"
"""All labels in doubt, of which the page lists the first."""
MISTAKES, SUSPECTS, DUPLICATES, PAIRS, CLASSES = 24, 24, 12, 20, 40
"""The most that the page lists of each; the classes beyond are folded away."""


class Finding(NamedTuple):
    """An image, what it is said to be, and what it is taken for."""

    image: Thumbnail
    label: str
    of_label: float
    other: str
    probability: float
    """Of the other."""


class Trained(NamedTuple):
    """What networks say of the training images that they had not seen."""

    probability_NK: np.ndarray
    """In the classes of the dataset; may be a memory map."""
    folds: int


def write(
    folder: Path,
    results: Results,
    about: About,
    dataset: Dataset,
    probability_NK: Tensor,
    label_N: Tensor,
    trained: Trained | None = None,
) -> Path:
    """Write into a folder the page about one model's answers, by the most views that it was asked
    for, to the validation images of `dataset`, and a table of the labels in doubt. Returns the
    page's path.

    Beside the answers only what is shown is in memory, the counts of confusions, and some 50 bytes
    for each image. Raises UserError where it cannot be written.
    """
    section = results.sections[0]
    score = section.rows[0].scores[-1]
    known = [c.name for c in about.classes]
    count_KK = confusion_KK(score) if len(known) <= drawings.DRAWN else None
    tallies = tally(score)
    wrong = confident_mistakes(probability_NK, label_N, MISTAKES)
    doubtful = suspects(probability_NK.numpy(), label_N.numpy())
    doubt = trained and suspects(
        trained.probability_NK, dataset.train.label(np.arange(len(dataset.train)))
    )
    suspect_table.write(folder / SUSPECTED, dataset, about.classes, doubtful, doubt)
    near = find_duplicates(dataset, DUPLICATES)
    size, names = dataset.manifest.size, {c.id: c.name for c in about.classes}
    images_of = {c.id: c.pictures for c in score.classes}
    page = _template().render(
        about=about,
        place=str(section.place),
        digest=dataset.digest,
        score=score,
        scores=section.rows[0].scores,
        interval=wilson(score.top1, score.pictures),
        interval5=wilson(score.top5, score.pictures),
        tallies=tallies[:CLASSES],
        more_tallies=tallies[CLASSES:],
        matrix=None
        if count_KK is None or len(tallies) > drawings.LABELLED
        else drawings.matrix(count_KK, known),
        matrix_uri=""
        if count_KK is None or len(tallies) <= drawings.LABELLED
        else data_uri(drawings.matrix_png(count_KK), "png"),
        pairs=[
            (names[p.label], names[p.guess], p.pictures, p.pictures / images_of[p.label])
            for p in score.confusions[:PAIRS]
        ],
        confusions=len(score.confusions),
        mistakes=_findings(
            dataset.val,
            size,
            about.classes,
            [(m.sample, m.label, m.of_label, m.guess, m.probability) for m in wrong],
        ),
        suspects=doubtful,
        suspected=SUSPECTED,
        packed=not dataset.manifest.original,
        doubtful=_suspicious(dataset.val, size, about.classes, doubtful),
        folds=trained.folds if trained else 0,
        trained=doubt,
        doubtful_trained=_suspicious(dataset.train, size, dataset.manifest.classes, doubt)
        if doubt
        else [],
        seen=about.dataset == dataset.digest,
        duplicates=near,
        pairs_of_images=list(
            zip(
                near.shown,
                thumbnails(dataset.val, [d.val for d in near.shown], size),
                thumbnails(dataset.train, [d.train for d in near.shown], size),
                _labels(dataset, dataset.val, [d.val for d in near.shown]),
                _labels(dataset, dataset.train, [d.train for d in near.shown]),
                strict=True,
            )
        ),
        distance=DISTANCE,
        bits=SIDE * SIDE,
        bars=drawings.bars(reliability(probability_NK, label_N)),
        calibration=about.calibration(score.views),
        calibrated_here=(found := about.calibration(score.views)) is not None
        and found.dataset == dataset.digest,
    )
    # Names of files need not be in UTF-8; what is not is shown as an escape.
    atomic.write(folder / PAGE, page.encode("utf-8", "backslashreplace"))
    return folder / PAGE


def make_folder(folder: Path) -> None:
    """The folder of a report. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--report {folder}: the folder cannot be made ({error.strerror}); name another"
        ) from None


def _suspicious(
    split: Split, size: int, classes: Sequence[ClassLabel], found: Suspects
) -> list[Finding]:
    rows = [(s.sample, s.label, s.of_label, s.other, s.probability) for s in found.first(SUSPECTS)]
    return _findings(split, size, classes, rows)


def _findings(
    split: Split,
    size: int,
    classes: Sequence[ClassLabel],
    rows: list[tuple[int, int, float, int, float]],
) -> list[Finding]:
    images = thumbnails(split, [sample for sample, *_ in rows], size)
    return [
        Finding(image, classes[label].name, of_label, classes[other].name, probability)
        for image, (_, label, of_label, other, probability) in zip(images, rows, strict=True)
    ]


def _labels(dataset: Dataset, split: Split, samples: list[int]) -> list[str]:
    return [dataset.manifest.classes[n].name for n in split.label(np.array(samples, int)).tolist()]


def _template() -> Template:
    templates = pages.environment(Path(__file__).parent)
    templates.filters["percent"] = lambda share: "–" if share is None else f"{share:.2%}"
    templates.filters["count"] = lambda number: f"{number:,}"
    templates.filters["shortened"] = drawings.shortened
    return templates.get_template("page.html")
