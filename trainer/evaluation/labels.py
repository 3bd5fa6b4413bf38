"""Which of a model's classes the classes of a folder, of a dataset or of another model are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from alexnet.classes import ClassLabel
from alexnet.command import UserError
from alexnet.store.url import Place
from pipeline.sources.label_table import shown


def labels_of(
    places: Mapping[str, Path | str], known: Sequence[ClassLabel], remedy: str = ""
) -> np.ndarray:
    """The labels, int64, that a model with the classes `known` has for other classes: they are
    called by its ids, or by names that one class alone has, all of them or some.

    `places` says for each where it was found. Raises UserError, which ends with `remedy`, where
    the model does not know one.
    """
    names = Counter(label.name for label in known)
    label = {c.name: number for number, c in enumerate(known) if names[c.name] == 1}
    label |= {c.id: number for number, c in enumerate(known)}
    if unknown := [name for name in places if name not in label]:
        raise UserError(
            f"{places[unknown[0]]}: {shown(unknown[0])[1:-1]} is no class of the models; classes "
            f"are found by their ids or names: {known[0].id} and so on{remedy}"
        )
    return np.array([label[name] for name in places], np.int64)


def check_classes(
    place: Place, classes: Sequence[ClassLabel], other: Place, others: Sequence[ClassLabel]
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
