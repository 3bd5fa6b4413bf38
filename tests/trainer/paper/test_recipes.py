"""What is said of recipes whose accuracies were made up; and that candidates see no validation
image."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from pipeline.folds import fold_of
from trainer.paper.experiment import Place, Result, Row
from trainer.paper.network_trial import recipe_of, train_network
from trainer.paper.recipes import BUDGETS, CANDIDATES, FOLDS, RECIPE, Recipes
from trainer.resolution import resolve

TINY = {"size": 128, "network.crop": 64, "network.width": 0.1, "epochs": 1}


def answered(row: Row) -> Result:
    """Of 1,000 images; batches of 32 get 50 more right."""
    recipe = recipe_of(row)
    right = 600 + 10 * recipe.seed + 50 * (recipe.batch == 32)
    return {"accuracy": [{"views": v, "pictures": 1000, "top1": right + v} for v in (1, 10)]}


@pytest.fixture
def recipes(dataset: Path) -> Recipes:
    data = Dataset(dataset)
    return Recipes(data, data, BUDGETS["full"], seeds=3)


def test_every_candidate_differs_from_the_recipe_and_from_the_others(recipes: Recipes) -> None:
    rows = recipes.rows(lambda row: None)
    assert len({row.key for row in rows}) == len(rows) == 2 * (1 + len(CANDIDATES)) + 3
    assert recipe_of(rows[-1]) == resolve(RECIPE, {}, [("seed", 2)])


def test_it_says_which_candidates_are_better(recipes: Recipes) -> None:
    outcome = recipes.outcome(answered)
    (own, *others) = outcome.table.rows
    assert own == ("small", "61.50", "")
    better = [name for name, _, points in others if points.startswith("+5")]
    assert better == ["batches of 32", "batches of 32, learning rate 0.005"]
    assert f"if only by chance: {', '.join(better)}." in outcome.paragraphs[1]
    assert "62.00 ± 1.00 % of" in outcome.paragraphs[0]


def test_candidates_are_compared_on_training_images_left_out(
    dataset: Path, recipes: Recipes, tmp_path: Path
) -> None:
    budget = recipes.budget._replace(candidates=(), seeds=1, compared=TINY)
    row = replace(recipes, budget=budget).rows(lambda row: None)[0]
    found = train_network(row.settings, Place(row.data, tmp_path, 1, gpu=False))
    left_out = (fold_of(Dataset(dataset), FOLDS) == 0).sum()
    assert {score["pictures"] for score in found["accuracy"]} == {left_out}
    assert not list(tmp_path.glob("folds/*"))
