"""Which of a model's classes the classes of a folder, of a dataset or of another model are."""

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from alexnet.classes import ClassLabel
from alexnet.command import UserError


def labels_of(ids: Sequence[str], place: Path, known: Sequence[ClassLabel]) -> np.ndarray:
    """The labels, int64, that a model with the classes `known` has for the classes `ids` of
    `place`: they are its ids, or names that one class alone has, all of them or some.

    Raises UserError where the model does not know one.
    """
    names = Counter(label.name for label in known)
    label = {c.name: number for number, c in enumerate(known) if names[c.name] == 1}
    label |= {c.id: number for number, c in enumerate(known)}
    if unknown := [name for name in ids if name not in label]:
        raise UserError(
            f"{place / unknown[0]}: {unknown[0]} is no class of the models; classes are found by "
            f"their ids or names: {known[0].id} and so on"
        )
    return np.array([label[name] for name in ids], np.int64)


def check_classes(
    place: Path, classes: Sequence[ClassLabel], other: Path, others: Sequence[ClassLabel]
) -> None:
    """Refuse, with UserError, classes of two models that are not the same in the same order."""
    ours, theirs = ([label.id for label in each] for each in (classes, others))
    for number, (our, their) in enumerate(zip_longest(ours, theirs, fillvalue="missing")):
        if our != their:
            raise UserError(
                f"{place} and {other} have different classes: class {number} "
                f"is {our} in the first, {their} in the second; both must come from the same class "
                "folders"
            )
