from pathlib import Path

import pytest

from alexnet.config import Ablation, AlexNetConfig
from trainer.recipe import Recipe, RecipeError, Start
from trainer.recipes import small
from trainer.resolution import resolve


def test_layers_that_are_frozen() -> None:
    def frozen(value: object, *others: tuple[str, object]) -> tuple[str, ...]:
        return resolve("small", {}, [("freeze", value), *others]).frozen

    five = ("conv1", "conv2", "conv3", "conv4", "conv5")
    assert frozen([]) == ()
    assert frozen("conv") == frozen(["fc6", "conv"])[:5] == five
    assert (
        frozen("fc7, conv2 ,conv1") == frozen(["fc7,conv2", "conv1"]) == ("conv1", "conv2", "fc7")
    )
    assert frozen("conv", ("network.sixth_conv", True)) == (*five, "conv6")
    with pytest.raises(RecipeError, match="there is no layer conv6 in this network"):
        frozen("conv6")
    with pytest.raises(
        RecipeError, match=r"--set freeze is fc8: expected 'conv', 'conv1', 'conv2'"
    ):
        frozen("fc8")


def test_an_ablated_network_and_its_layers(tmp_path: Path) -> None:
    def changed(*changes: tuple[str, object], recipe: str = "small") -> Recipe:
        return resolve(recipe, {}, [(f"network.ablation.{field}", v) for field, v in changes])

    assert changed(("removed", "conv4")).network.ablation == Ablation(removed="conv4")
    assert changed(("removed", None), ("links", True)) == small()
    assert changed(("deviation", 0.01)).network.ablation.deviation == 0.01
    frozen = resolve("small", {}, [("network.ablation.removed", "conv3"), ("freeze", "conv")])
    assert frozen.frozen == ("conv1", "conv2", "conv4", "conv5")
    without = ("network.ablation.removed", "conv5")
    for field in ("freeze", "layer_rates.conv6"):
        with pytest.raises(RecipeError, match=r"there is no layer conv[56] in this network"):
            resolve("small", {}, [without, (field, "conv5" if field == "freeze" else 1)])
    for field, value, text in (
        ("removed", "conv2", "network.ablation.removed is conv2: expected 'conv3', 'conv4' or"),
        ("removal", "conv3", "a recipe has no field network.ablation.removal"),
        ("deviation", 0, "network.ablation.deviation is 0: expected more than 0"),
    ):
        with pytest.raises(RecipeError, match=text):
            changed((field, value))

    model = Start(
        tmp_path, small().network.model_copy(update={"ablation": Ablation(links=False)}), 160
    )
    started = resolve("finetune", {}, [], model)
    assert started.network.ablation == Ablation(links=False)
    with pytest.raises(RecipeError) as error:
        resolve(
            "small",
            {},
            [("network.ablation.links", True), ("network.ablation.removed", "conv3")],
            model,
        )
    assert "--set network.ablation.removed is conv3, the model's None; --set" in str(error.value)
    assert "network.ablation.links is True, the model's False" in str(error.value)
    shorter = model._replace(network=AlexNetConfig(ablation=Ablation(removed="conv4")), size=256)
    assert resolve("finetune", {}, [], shorter).network == shorter.network
