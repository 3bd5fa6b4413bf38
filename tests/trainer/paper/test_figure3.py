"""What is said of towers whose colours were made up."""

from pathlib import Path

import numpy as np
import pytest

from alexnet.checkpoint import load
from pipeline.dataset import Dataset
from trainer.paper.experiment import Result, Row
from trainer.paper.figure3 import Figure3
from trainer.paper.network_trial import SIZES, recipe_of
from trainer.run import RunError


def coloured(row: Row, apart: float) -> Result:
    """48 kernels; those of one of two towers are more colourful, by `apart`."""
    recipe = recipe_of(row)
    random = np.random.default_rng(recipe.seed)
    colour_N = random.uniform(0.2, 0.4, 48)
    if recipe.network.towers == 2:
        colour_N[:24] += apart
    return {"model": "tiny", "colourfulness": colour_N.tolist()}


@pytest.mark.parametrize("apart", [0, 0.5])
def test_it_says_whether_towers_turn_to_colour(dataset: Path, indexed: Path, apart: float) -> None:
    models = indexed.parent.parent
    assert load(indexed).model.config.towers == 2
    figure = Figure3(Dataset(dataset), SIZES["full"], 4, models)
    assert len(figure.rows(lambda row: None)) == 8
    outcome = figure.outcome(lambda row: coloured(row, apart))
    separations = [m["separation"] for m in outcome.numbers["networks"]["two towers"]]
    if apart:
        assert separations == pytest.approx([0.5] * 4, abs=0.06)
        assert "in every run, as the paper says" in outcome.paragraphs[0]
        assert len(outcome.paragraphs) == 1
    else:
        assert max(separations) < 0.06
        assert "not further apart" in outcome.paragraphs[1]
    assert outcome.numbers["more"]["mean"] == pytest.approx(apart, abs=0.06)


def test_a_network_that_is_on_another_machine_is_asked_for(dataset: Path, tmp_path: Path) -> None:
    figure = Figure3(Dataset(dataset), SIZES["full"], 1, tmp_path)
    (row, _) = figure.rows(lambda row: None)
    with pytest.raises(RunError, match=f"delete rows/{row.key}.json"):
        figure.outcome(lambda row: coloured(row, 0.5))
