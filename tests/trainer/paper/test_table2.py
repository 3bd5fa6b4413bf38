"""What is said of networks whose scores were made up, and which rows are wanted when."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from pipeline.folds import write_classes
from trainer.paper.experiment import Result, Row
from trainer.paper.network_trial import SIZES
from trainer.paper.table2 import Table2
from trainer.run import RunError

WRONG = {"1 CNN": (40, 44), "CNNs": (38,), "1 CNN*": (41, 43), "CNNs*": (36,)}
"""Images of 100 that each network, or several as one, gets wrong."""


def found(row: Row) -> Result:
    if "pre-trained" not in row.settings:
        return {"model": "tiny"}
    lines = {
        line: [
            [
                {"views": views, "top1": 100 - wrong - more, "top5": 100, "nll": wrong / 50}
                for views, more in ((1, 5), (10, 0))
            ]
            for wrong in each
        ]
        for line, each in WRONG.items()
    }
    return {"pictures": 100, "lines": lines, "weights": {}}


@pytest.fixture
def table2(dataset: Path, indexed: Path, tmp_path: Path) -> Table2:
    table = Table2.of(Dataset(dataset), SIZES["full"], 2, tmp_path)
    return replace(table, models=indexed.parent.parent)


def test_what_builds_on_others_is_wanted_after_them(table2: Table2) -> None:
    first = table2.rows(lambda row: None)
    assert len(first) == 4
    second = table2.rows(lambda row: found(row) if row.key in {r.key for r in first} else None)
    assert len(second) == 6
    third = table2.rows(lambda row: None if "pre-trained" in row.settings else found(row))
    assert len({row.key for row in third}) == len(third) == 7
    assert [row.key for row in third[:6]] == [row.key for row in second]


def test_rows_are_the_same_wherever_the_images_lie(table2: Table2, tmp_path: Path) -> None:
    copy = shutil.copytree(table2.dataset.folder, tmp_path / "copy")
    other = Table2.of(Dataset(copy), table2.base, 2, tmp_path / "elsewhere")
    assert [r.key for r in other.rows(found)] == [r.key for r in table2.rows(found)]


def test_the_outcome_tells_what_is_not_as_in_the_paper(table2: Table2) -> None:
    outcome = table2.outcome(found)
    error = outcome.numbers["lines"]["1 CNN"]["10"]["top1"]
    assert error == pytest.approx({"mean": 42, "low": 40, "high": 44})
    assert outcome.numbers["lines"]["4 CNNs*"]["1"]["top1"]["mean"] == pytest.approx(41)
    said = " ".join(outcome.paragraphs)
    assert "1 CNN 42.0 (40.0 to 44.0), in the paper 40.7 (1 CNN); 2 CNNs 38.0" in said
    assert "no top-5 guess is wrong" in said
    assert "1 CNN* is not lower than that of 1 CNN here, 42.0 % and 42.0 %" in said
    assert said.count("is not lower") == 1


def test_what_it_cannot_do_without_is_said(table2: Table2, tmp_path: Path) -> None:
    few = write_classes(table2.dataset, tmp_path / "few", 2)
    with pytest.raises(RunError, match="three classes or more"):
        Table2.of(few, table2.base, 2, tmp_path)
    gone = replace(table2, models=tmp_path / "gone")
    first = gone.rows(lambda row: None)
    keys = {row.key for row in first}
    with pytest.raises(RunError, match=f"delete rows/{first[2].key}.json"):
        gone.rows(lambda row: found(row) if row.key in keys else None)
    assert len(gone.rows(found)) == 7  # where all are scored, none need be there
