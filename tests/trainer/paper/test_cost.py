"""The hours of 90 epochs, of speeds that were made up."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from trainer.paper.cost import PUBLISHED, Cost
from trainer.paper.experiment import Result, Row

HERE = {"cpu": "Abacus", "cores": 2, "gpus": []}
GPU = {"cpu": "Abacus", "cores": 16, "gpus": ["H100"]}
SPEEDS = {"2 cores of Abacus": 100, "16 cores of Abacus, H100": 20_000}


def found(row: Row) -> Result | None:
    return {"images": SPEEDS[row.name] * 50, "seconds": 50, "waiting": 0.25}


@pytest.fixture
def cost(dataset: Path) -> Cost:
    return Cost(Dataset(dataset), {}, 120, HERE)


def test_hours_are_those_of_the_images_of_ninety_epochs(cost: Cost) -> None:
    outcome = cost.outcome(found)
    (hours,) = outcome.numbers["hours"].values()
    assert hours == pytest.approx(90 * 1_281_167 / 100 / 3600)
    first, one, eight, paper = outcome.table.rows[:4]
    assert first == (
        "2 cores of Abacus", "100", "13.3 days", "90", "measured in 50 s, 25.0% of it for images",
    )  # fmt: skip
    assert (one[0], one[2]) == ("one GPU", "not measured")
    assert (eight[0], eight[2]) == ("eight GPUs", "not measured")
    assert paper[1:3] == ("243", "5.5 days")
    assert "Not measured, and so not estimated: one GPU, eight GPUs" in outcome.paragraphs[0]


def test_machines_that_left_rows_are_shown(cost: Cost) -> None:
    cost = replace(cost, elsewhere=[GPU, HERE])
    assert [row.name for row in cost.rows(found)] == list(SPEEDS)
    outcome = cost.outcome(found)
    assert [row[0] for row in outcome.table.rows] == [
        *SPEEDS, "eight GPUs", *(training.machine for training in PUBLISHED)
    ]  # fmt: skip
    # Of another recipe or dataset they are not found, and do not count.
    assert [row.name for row in cost.rows(lambda row: None)] == ["2 cores of Abacus"]
