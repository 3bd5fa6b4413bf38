"""What an evaluation found, as it is written to JSON; a pure function of answers and labels.

Shapes: M models, V of 1 and 10 views, N images, K classes.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from alexnet.classes import ClassLabel
from alexnet.command import UserError
from alexnet.store.url import Place
from trainer.evaluation.calibration import Fit
from trainer.evaluation.ensemble import Mixture, mixed
from trainer.evaluation.probabilities import Answers
from trainer.evaluation.scores import Score, score

Kind = Literal["packed", "served"]
"""packed: images of a dataset. served: originals, decoded and computed as the server does."""


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class ModelName(Frozen):
    """Which weights were asked."""

    name: str
    step: int
    sha256: str
    directory: Place
    trained_on: str | None
    """Digest of the dataset; None for an imported model."""

    @property
    def title(self) -> str:
        return f"{self.name}, step {self.step}"


class Row(Frozen):
    """One model, or several as one."""

    name: str
    weights: tuple[float, ...]
    """A weight for each model, to be divided by their sum."""
    searched: bool
    """Whether the weights were tuned on these very images."""
    scores: tuple[Score, ...]
    """One for each number of views."""
    differ: tuple[int, ...] | None
    """How many best guesses differ from those about the same images packed, for each number of
    views."""


class RefusedFile(Frozen):
    file: str
    reason: str


class Section(Frozen):
    """The rows of all mixtures of models about one set of images."""

    kind: Kind
    place: Place
    pictures: int
    refused: tuple[RefusedFile, ...]
    """Files that are no images to us; they are counted nowhere."""
    rows: tuple[Row, ...]


class Results(Frozen):
    models: tuple[ModelName, ...]
    views: tuple[int, ...]
    dataset: str | None
    """Digest of the packed dataset."""
    duplicates: int | None
    """How many of its validation images are also among its training images."""
    sections: tuple[Section, ...]
    calibrations: tuple[Fit, ...] = ()
    """One of each model for each number of views, where they were calibrated."""


def section(
    kind: Kind,
    place: Place,
    answers: Answers,
    label_N: Tensor,
    *,
    mixtures: Sequence[Mixture],
    views: Sequence[int],
    classes: Sequence[ClassLabel],
    packed_MVNK: Tensor | None = None,
) -> Section:
    """Score each mixture of models, and where `packed_MVNK` has answers about the same images,
    count how many best guesses differ. Raises UserError if no image could be used."""
    usable_N = torch.ones(len(label_N), dtype=torch.bool)
    usable_N[[refused.sample for refused in answers.refused]] = False
    if not usable_N.any():
        first = answers.refused[0]
        raise UserError(f"{first.file}: {first.reason}; none of the other files can be used either")
    label_N = label_N[usable_N]

    def mixture_of(probability_MVNK: Tensor, weights: Sequence[float], view: int) -> Tensor:
        return mixed(probability_MVNK[:, view, usable_N], weights)

    rows = []
    for mixture in mixtures:
        scores, differ = [], []
        for view, count in enumerate(views):
            probability_NK = mixture_of(answers.probability_MVNK, mixture.weights, view)
            scores.append(score(probability_NK, label_N, count, classes))
            if packed_MVNK is not None:
                packed_NK = mixture_of(packed_MVNK, mixture.weights, view)
                differ.append(int((probability_NK.argmax(1) != packed_NK.argmax(1)).sum()))
        rows.append(
            Row(
                **mixture._asdict(),
                scores=tuple(scores),
                differ=None if packed_MVNK is None else tuple(differ),
            )
        )
    return Section(
        kind=kind,
        place=place,
        pictures=len(label_N),
        refused=tuple(RefusedFile(file=r.file, reason=r.reason) for r in answers.refused),
        rows=tuple(rows),
    )
