"""What is said of guesses and neighbours that were made up."""

from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from trainer.paper.experiment import Result, Row
from trainer.paper.figure3 import Figure3
from trainer.paper.figure4 import Figure4
from trainer.paper.network_trial import SIZES
from trainer.run import RunError


def found(row: Row, same: float = 0.6) -> Result:
    if "model" not in row.settings:
        return {"model": "tiny"}
    guesses = [[1, 0.5], [0, 0.3], [2, 0.2]]
    near = [{"image": n, "name": f"near{n}", "label": n % 2, "distance": n / 7} for n in range(6)]
    return {
        "guesses": [
            {"image": n, "name": f"image{n}", "label": n % 3, "guesses": guesses} for n in range(8)
        ],
        "queries": [
            {"image": n, "name": f"query{n}", "label": 0, "neighbours": near} for n in range(5)
        ],
        "validation": {"pictures": 12, "same": same, "chance": 1 / 3},
    }


@pytest.fixture
def figure4(dataset: Path, indexed: Path) -> Figure4:
    return Figure4(Dataset(dataset), SIZES["full"], indexed.parent.parent)


def test_the_network_is_one_that_figure3_trains(figure4: Figure4) -> None:
    (network,) = figure4.rows(lambda row: None)
    others = Figure3(figure4.dataset, figure4.base, 1, figure4.models).rows(lambda row: None)
    assert network.key in {row.key for row in others}
    assert len(figure4.rows(found)) == 2


def test_it_counts_what_is_right_beside_chance(figure4: Figure4) -> None:
    outcome = figure4.outcome(found)
    assert outcome.numbers["guessed"] == {"pictures": 8, "top1": 3, "top5": 8}
    assert outcome.numbers["neighbours"] == pytest.approx(
        {"pictures": 30, "same": 15, "chance": 10}
    )
    (text,) = outcome.paragraphs
    assert "right for 3 of 8" in text
    assert "60.0 % of 6 neighbours" in text
    assert len(outcome.table.rows) == 13
    worse = figure4.outcome(lambda row: found(row, same=0.3))
    assert "no more often" in worse.paragraphs[1]


def test_a_network_that_is_on_another_machine_is_asked_for(
    figure4: Figure4, tmp_path: Path
) -> None:
    elsewhere = Figure4(figure4.dataset, figure4.base, tmp_path)
    (row,) = elsewhere.rows(lambda row: None)
    with pytest.raises(RunError, match=f"delete rows/{row.key}.json"):
        elsewhere.rows(lambda row: {"model": "tiny"} if "model" not in row.settings else None)
    assert len(elsewhere.rows(found)) == 2  # where it has been asked, it need not be there
