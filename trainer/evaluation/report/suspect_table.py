"""The table of all images of a dataset whose label is in doubt."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet import atomic
from alexnet.classes import ClassLabel
from pipeline.dataset import Dataset
from pipeline.split import Split
from trainer.evaluation.report.suspects import Suspects

COLUMNS = ("split", "image", "label", "label_probability", "probably", "probability")


def write(
    path: Path,
    dataset: Dataset,
    classes: Sequence[ClassLabel],
    val: Suspects,
    train: Suspects | None,
) -> None:
    """Write it as CSV, classes by their ids, training images first, of each split the widest margin
    first. Validation images were judged in `classes`, training images in those of the dataset.
    Raises UserError."""
    sets: list[tuple[str, Split, Sequence[ClassLabel], Suspects]] = [
        ("val", dataset.val, classes, val)
    ]
    if train:
        sets.insert(0, ("train", dataset.train, dataset.manifest.classes, train))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for name, split, known, suspects in sets:
        found = suspects.first(suspects.total)
        images = split.names(np.array([each.sample for each in found], int))
        for image, each in zip(images, found, strict=True):
            label, other = known[each.label].id, known[each.other].id
            rows.writerow((name, image, label, each.of_label, other, each.probability))
    # Names of files need not be in UTF-8; what is not is shown as an escape.
    atomic.write(path, text.getvalue().encode("utf-8", "backslashreplace"))
