"""One training that goes on from a network of another row, by the recipe `finetune`."""

from pathlib import Path

from alexnet.checkpoint import current
from trainer.paper.experiment import Place, Result, Row, Settings
from trainer.paper.network_trial import recipe_fields, train
from trainer.recipe import Recipe, Start
from trainer.recipes import finetune
from trainer.resolution import resolve


def finetune_row(name: str, before: Recipe, model: str, task: Row) -> Row:
    """The training of `task`, but from the `model` that was trained by the recipe `before`, and as
    `alexnet train --init-from` does it: by the recipe `finetune`, for as many epochs as before."""
    start = Start(Path(model), before.network, before.size)
    changes: dict[str, object] = {"epochs": before.epochs, "seed": before.seed}
    if before.network.sixth_conv:  # taken over like the layers that the recipe has a rate for
        changes["layer_rates.conv6"] = finetune().layer_rates["conv5"]
    recipe = resolve("finetune", {}, list(changes.items()), start)
    settings = {**task.settings, "recipe": recipe_fields(recipe), "model": model}
    return Row(f"{name}, seed {before.seed}", finetune_network, settings, task.data)


def finetune_network(settings: Settings, place: Place) -> Result:
    """What `train_network` does and returns, from the weights of a network of `place.work`."""
    recipe = Recipe.model_validate(settings["recipe"])
    model = current(place.work / "models" / settings["model"]).absolute()
    return train(settings, place, recipe, Start(model, recipe.network, recipe.size))
