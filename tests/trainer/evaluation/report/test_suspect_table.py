"""All labels in doubt, as a table."""

import csv
from pathlib import Path

import numpy as np

from pipeline.dataset import Dataset
from trainer.evaluation.report import suspect_table
from trainer.evaluation.report.suspects import suspects


def test_every_suspect_has_a_row(dataset: Path, tmp_path: Path) -> None:
    data = Dataset(dataset)
    classes, random = data.manifest.classes, np.random.default_rng(0)
    of = {}
    for name, split in (("train", data.train), ("val", data.val)):
        label_N = split.label(np.arange(len(split)))
        probability_NK = random.dirichlet(np.full(len(classes), 0.5), len(label_N))
        of[name] = split, suspects(probability_NK, label_N)
    path = tmp_path / "suspects.csv"
    suspect_table.write(path, data, classes, of["val"][1], of["train"][1])
    rows = list(csv.DictReader(path.read_text().splitlines()))
    expected = [
        {
            "split": name,
            "image": split.names(np.array([each.sample]))[0],
            "label": classes[each.label].id,
            "label_probability": str(each.of_label),
            "probably": classes[each.other].id,
            "probability": str(each.probability),
        }
        for name, (split, found) in of.items()
        for each in found.first(found.total)
    ]
    assert rows == expected
    assert {row["split"] for row in rows} == {"train", "val"}
    suspect_table.write(path, data, classes, of["val"][1], None)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert rows == [row for row in expected if row["split"] == "val"]
