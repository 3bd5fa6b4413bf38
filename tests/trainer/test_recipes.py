from collections import OrderedDict
from math import log

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from alexnet.config import AlexNetConfig
from trainer.loop.optimizer import SGD2012
from trainer.recipes import RECIPES, fast, finetune, paper
from trainer.resolution import resolve


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_valid_and_named(name: str) -> None:
    recipe = resolve(name, {}, [])
    assert recipe == RECIPES[name]()
    assert recipe.name == name


def test_paper_is_config_170() -> None:
    recipe = paper()
    assert (recipe.batch, recipe.rate, recipe.momentum, recipe.weight_decay, recipe.epochs) == (
        128, 0.01, 0.9, 0.0005, 90,
    )  # fmt: skip
    assert (recipe.network.towers, recipe.network.width, recipe.network.crop) == (2, 1, 224)
    assert recipe.colour_until < recipe.conv1_until < 1


def test_finetune_gives_all_layers_that_are_taken_over_the_same_rate() -> None:
    """0.005, and fc8 less, of which two classes bear no more."""
    recipe = finetune()
    rates = {layer: recipe.rate * factor for layer, factor in recipe.layer_rates.items()}
    assert rates == dict.fromkeys(
        (*AlexNetConfig().convolutions, "fc6", "fc7"), pytest.approx(0.005)
    )
    assert recipe.rate < 0.004
    tenth = resolve("finetune", {}, [("layer_rates.fc6", 1), ("freeze", "conv")])
    assert tenth.layer_rates == recipe.layer_rates | {"fc6": 1}


def test_epochs_that_are_given_are_kept_to() -> None:
    assert resolve("finetune", {}, []).least_steps == finetune().least_steps > 0
    given = resolve("finetune", {}, [("epochs", 3)])
    assert (given.epochs, given.least_steps) == (3, 0)
    both = resolve("finetune", {"ALEXNET_RECIPE_LEAST_STEPS": "50"}, [("epochs", 3)])
    assert (both.epochs, both.least_steps) == (3, 50)


def test_a_new_classifier_learns_steadily_on_a_network_that_has_learnt_nothing() -> None:
    """The worst input that fc8 can have: 4,096 units, nearly all active and of nearly the same
    value whatever the image. Of three classes; at 0.01 the loss rises above 10."""
    recipe = finetune()
    torch.manual_seed(0)
    classifier = nn.Sequential(OrderedDict(fc8=nn.Linear(4096, 3)))
    nn.init.normal_(classifier.fc8.weight, std=0.01)
    nn.init.zeros_(classifier.fc8.bias)
    optimizer = SGD2012(classifier, recipe.rate, recipe.momentum, recipe.weight_decay)
    image_NH = 1 + 0.2 * torch.randn(30, 4096)
    label_N, losses = torch.arange(30) % 3, []
    for _ in range(100):
        optimizer.zero_grad()
        mask_NH = torch.rand_like(image_NH) < 0.5
        loss = cross_entropy(classifier(image_NH * mask_NH), label_N)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses) < 2
    assert sum(losses[-20:]) / 20 < log(3)


def test_fast_learns_at_the_rate_of_paper_from_each_sample() -> None:
    assert fast().rate / fast().batch == paper().rate / paper().batch
    assert fast().network == paper().network
