from operator import attrgetter
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from alexnet.config import AlexNetConfig
from trainer.recipe import Recipe, RecipeError, Start
from trainer.recipes import RECIPES, small
from trainer.resolution import VARIABLE, parse, resolve

"""Recipes are checked at birth, and changed by file, environment and command line in that order."""


FIELDS = [
    *Recipe.model_fields, "network.width", "network.kernels", "network.crop", "schedule.kind",
    "schedule.drops", "schedule.patience",
]  # fmt: skip


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(10**400), st.floats(), st.text(max_size=9),
    st.dates(), st.binary(max_size=3), st.sampled_from(["plateau", "pixel", "bf16"]),
)  # fmt: skip


values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(scalars | st.sampled_from(["kind", "width"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def test_file_then_environment_then_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: small\nepochs: 30\nseed: 1\nnetwork: {width: 0.25, crop: 96}\n")
    variables = {
        "ALEXNET_RECIPE_SEED": "2",
        "ALEXNET_RECIPE_NETWORK__CROP": "104",
        "ALEXNET_RECIPE_PRECISION": "bf16",
        "OTHER": "x",
    }
    recipe = resolve(str(file), variables, [("precision", "fp32"), ("network.dropout", 0.1)])
    assert recipe.name == "mine"
    assert (recipe.epochs, recipe.seed, recipe.precision) == (30, 2, "fp32")
    network = recipe.network
    assert (network.width, network.crop, network.dropout) == (0.25, 104, 0.1)
    assert recipe.size == small().size


def test_learning_rates_by_layer(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("recipe: small\nlayer_rates: {conv1: 0.1, fc6: 0.5}")
    recipe = resolve(
        str(tmp_path / "mine.yaml"),
        {VARIABLE + "LAYER_RATES__FC7": "0.2"},
        [("layer_rates.fc6", 2)],
    )
    assert recipe.layer_rates == {"conv1": 0.1, "fc6": 2, "fc7": 0.2}
    for field, value, text in (
        ("layer_rates.conv9", 1, "--set layer_rates.conv9: expected 'conv1', 'conv2', .* or 'fc8'"),
        ("layer_rates.conv1", 0, r"--set layer_rates.conv1 is 0: expected more than 0"),
        ("layer_rates.conv6", 1, "there is no layer conv6 in this network"),
    ):
        with pytest.raises(RecipeError, match=text):
            resolve("small", {}, [(field, value)])


def test_a_schedule_of_another_kind_is_taken_whole() -> None:
    recipe = resolve("paper", {}, [("schedule", {"kind": "plateau"}), ("schedule.patience", 7)])
    assert recipe.schedule.model_dump() == {
        "kind": "plateau", "factor": 0.1, "drops": 3, "bias_drops": 1, "patience": 7,
        "threshold": 0.002,
    }  # fmt: skip
    assert resolve("paper", {}, [("schedule.drops", [[0.5, 0.1]])]).schedule.drops == ((0.5, 0.1),)


@pytest.mark.parametrize("given", ["file", "environment"])
def test_the_kind_of_a_schedule_keeps_the_fields_that_are_given_for_it(
    given: str, tmp_path: Path
) -> None:
    file, variables = tmp_path / "mine.yaml", {}
    if given == "file":
        file.write_text("recipe: paper\nschedule: {kind: plateau, patience: 3, factor: 0.5}\n")
    else:
        file.write_text("recipe: paper\n")
        variables = {f"{VARIABLE}SCHEDULE__PATIENCE": "3", f"{VARIABLE}SCHEDULE__FACTOR": "0.5"}
    for change in (("schedule.kind", "plateau"), ("schedule", {"kind": "plateau"})):
        schedule = resolve(str(file), variables, [change]).schedule.model_dump()
        assert (schedule["kind"], schedule["patience"], schedule["factor"]) == ("plateau", 3, 0.5)
    if given == "file":  # they are not for another kind
        cosine = resolve(str(file), variables, [("schedule.kind", "cosine")]).schedule
        assert cosine.model_dump() == {"kind": "cosine"}


def test_the_rate_goes_with_the_batch_unless_it_is_given() -> None:
    """The author's run at twice the batch and the learning rate matched:
    layer-params-170-256-double.cfg."""
    assert resolve("paper", {}, [("batch", 256)]).rate == 0.02
    assert resolve("paper", {"ALEXNET_RECIPE_BATCH": "64"}, []).rate == 0.005
    assert resolve("paper", {}, [("batch", 256), ("rate", 0.01)]).rate == 0.01


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ([("batch", 0)], "--set batch is 0: expected at least 1"),
        ([("batch", "x")], "--set batch is x: expected a whole number"),
        ([("epoch", 3)], "--set epoch: a recipe has no field epoch; `alexnet recipe` prints"),
        ([("network.depth", 9)], "--set network.depth: a recipe has no field network.depth"),
        ([("precision", "fp8")], "--set precision is fp8: expected 'auto', 'fp32' or 'bf16'"),
        ([("schedule", "cosine")], "--set schedule is cosine: expected a group of fields"),
        ([("schedule", {"kind": "linear"})], "expected a 'kind' among 'fixed', 'plateau', 'cosi"),
        ([("rate", 0)], "--set rate is 0: expected more than 0"),
        ([("rate", float("inf"))], "--set rate is inf: expected a finite number"),
        ([("network.dropout", float("nan"))], "--set network.dropout is nan: expected a finite"),
        ([("rate.weights", 3)], "--set rate.weights is {'weights': 3}: expected a number"),
        ([("rate", 3), ("rate.weights", 3)], "--set rate.weights: rate has no fields, its value"),
        ([("schedule.patience", 3)], "--set schedule.patience: a recipe has no field schedule.pa"),
        (
            [("network.towers", 1), ("network.ablation.links", False)],
            "^--set network.ablation.links: ablation.links is false, which parts the two towers of",
        ),
        ([("crops", "center")], "--set crops is center: expected 'random' or 'centre'"),
        ([("mirrors", "some")], "--set mirrors is some: expected true or false"),
        ([("order", "shuffled")], "--set order is shuffled: expected 'random' or 'fixed'"),
        (
            [("order", "fixed"), ("balance", "sampling")],
            "order is fixed, but balance is sampling, which draws other images in each epoch; lea",
        ),
        ([("network.crop", 300)], r"network.crop \(300\) exceeds size \(256\)"),
    ],
)
def test_bad_values_are_refused(changes: list, text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        resolve("paper", {}, changes)


def test_a_bad_value_is_named_after_the_place_it_comes_from(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"^ALEXNET_RECIPE_NETWORK__WIDTH is 9: expected at most"):
        resolve("paper", {"ALEXNET_RECIPE_NETWORK__WIDTH": "9"}, [])
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: paper\nnetwork: {width: 9}")
    with pytest.raises(RecipeError, match=r"mine.yaml: network.width is 9: expected at most 4"):
        resolve(str(file), {}, [])
    with pytest.raises(RecipeError, match=r"^--set network.width is 8: expected at most 4"):
        resolve(str(file), {"ALEXNET_RECIPE_NETWORK__WIDTH": "9"}, [("network.width", 8)])


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, r"mine.yaml: No such file"),
        (
            "epochs: 3",
            r"mine.yaml: add a line `recipe: NAME` with the recipe it changes, paper, fa",
        ),
        ("recipe: large", r"mine.yaml: there is no recipe 'large'; add a line `recipe: NAME`"),
        ("recipe: [large]", r"there is no recipe \['large'\]; add a line `recipe: NAME`"),
        ("- a list", r"add a line `recipe: NAME`"),
        (
            "a: b: c",
            r"mine.yaml: this is not a valid YAML file \(mapping values are not allowed here",
        ),
    ],
)
def test_files_that_are_no_recipes(tmp_path: Path, content: str | None, text: str) -> None:
    file = tmp_path / "mine.yaml"
    if content:
        file.write_text(content)
    with pytest.raises(RecipeError, match=text):
        resolve(str(file), {}, [])


def refusal(recipe: str, environment: dict[str, str], changes: list) -> str | None:
    """The line in which they are refused, if they are."""
    try:
        assert isinstance(resolve(recipe, environment, changes), Recipe)
    except RecipeError as error:
        return str(error)
    return None


def is_a_line(text: str) -> bool:
    return len(text.splitlines()) == 1 and len(text) < 1000


@given(st.lists(st.tuples(st.sampled_from(FIELDS) | st.text(max_size=9), values), max_size=3))
@example([("batch", [])])
@example([("network", 3), ("batch", 2)])
@example([("a\nb", 3)])
def test_any_value_makes_a_recipe_or_is_refused_in_a_line(changes: list) -> None:
    refused = refusal("small", {}, changes)
    assert refused is None or is_a_line(refused)


@given(st.sampled_from(FIELDS), st.text(max_size=20) | values.map(yaml.dump))
@example("epochs", "")
@example("batch", "[" * 5000)
@example("rate", "2024-13-45")
@example("rate", "9" * 5000)
@example("rate", "0x" + "f" * 5000)
@example("rate", "!!bool x")
@example("rate", "!!timestamp x")
@example("rate", "!!int ''")
def test_any_variable_makes_a_recipe_or_is_refused_in_a_line(field: str, text: str) -> None:
    variable = VARIABLE + field.upper().replace(".", "__")
    refused = refusal("small", {variable: text}, [])
    assert refused is None or is_a_line(refused)
    assert refused is None or variable in refused or "network.crop" in refused


@given(content=st.text(max_size=30) | values.map(yaml.dump))
@example("network: 3")
@example("3: 4")
@example("network: {3: 4}")
@example("batch: []")
@example("when: 2024-13-45")
def test_any_file_makes_a_recipe_or_is_refused_in_a_line(
    tmp_path_factory: pytest.TempPathFactory, content: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.yaml"
    file.write_text("recipe: small\n" + content, errors="replace")
    refused = refusal(str(file), {}, [])
    assert refused is None or is_a_line(refused)
    assert refused is None or "any.yaml" in refused


def test_names_that_are_no_recipes() -> None:
    with pytest.raises(
        RecipeError, match="no recipe 'large'; give paper, fast, small, finetune, or a file"
    ):
        resolve("large", {}, [])
    with pytest.raises(RecipeError, match=r"--set epochs: '\{' is not valid YAML"):
        parse("{", "--set epochs")


IMPORTED = {
    "torchvision": AlexNetConfig(
        towers=1, kernels=(64, 192, 384, 256, 256), conv1_padding=2, local_response_norm=False
    ),
    "caffe": AlexNetConfig(crop=227, norm_k=1, norm_across_towers=True),
    "caffenet": AlexNetConfig(crop=227, norm_k=1, norm_across_towers=True, norm_after_pool=True),
    "small": small().network,
    "sixth": AlexNetConfig(sixth_conv=True, classes=7),
}


def started(network: AlexNetConfig) -> Start:
    return Start(Path("models/m/00000007"), network, 256)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("network", IMPORTED.values(), ids=IMPORTED)
def test_a_run_has_the_network_of_the_model_it_starts_from(
    recipe: str, network: AlexNetConfig
) -> None:
    """All else is the recipe's."""
    alone = resolve(recipe, {}, [("epochs", 3)])
    found = resolve(recipe, {}, [("epochs", 3)], started(network))
    assert found == alone.model_copy(update={"network": network, "size": 256})
    again = [("network", network.model_dump()), ("network.classes", 3)]
    repeated = resolve(recipe, {}, again, started(network)).network
    assert repeated == network.model_copy(update={"classes": 3})


@pytest.mark.parametrize("network", IMPORTED.values(), ids=IMPORTED)
def test_each_field_of_another_network_is_refused(network: AlexNetConfig) -> None:
    others = {
        "towers": 3 - network.towers, "kernels": (8, 8, 8, 8, 8), "conv1_padding": 1,
        "local_response_norm": not network.local_response_norm, "norm_k": 3.0,
        "norm_across_towers": not network.norm_across_towers,
        "norm_after_pool": not network.norm_after_pool, "order": "released",
        "pooling": "plain", "activation": "tanh",
        "dropout": 0.25, "width": 0.3, "crop": 100,
        "ablation.removed": "conv4", "ablation.deviation": 0.01, "ablation.inverted_dropout": True,
    }  # fmt: skip
    if network.towers == 2 and not network.norm_across_towers:
        others["ablation.links"] = False
    named = {field.split(".")[0] for field in others}
    assert AlexNetConfig.model_fields.keys() - named == {"classes", "sixth_conv"}
    if network.norm_after_pool:
        del others["order"]  # refused before
    for field, value in others.items():
        with pytest.raises(RecipeError) as caught:
            resolve("paper", {}, [(f"network.{field}", value)], started(network))
        own = attrgetter(field)(network)
        assert str(caught.value) == (
            "models/m/00000007: a run that starts from this model has its network, but another is "
            f"asked for (--set network.{field} is {value}, the model's {own}); "
            "leave that out"
        )


def test_a_sixth_convolution_can_be_added_but_not_left_out() -> None:
    asked = [("network.sixth_conv", True)]
    assert resolve("paper", {}, asked, started(AlexNetConfig())).network.sixth_conv
    with pytest.raises(RecipeError, match="sixth_conv is False, the model's True"):
        resolve("paper", {}, [("network.sixth_conv", False)], started(IMPORTED["sixth"]))


def test_all_that_differs_is_listed_with_its_source(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("recipe: small\nnetwork: {width: 0.25, towers: 2}\n")
    environment = {f"{VARIABLE}NETWORK__NORM_K": "2"}
    with pytest.raises(RecipeError) as caught:
        resolve(str(file), environment, [("network.crop", 128)], started(IMPORTED["caffe"]))
    assert (
        f"({VARIABLE}NETWORK__NORM_K is 2.0, the model's 1.0; {file}: network.width is 0.25, the "
        "model's 1.0; --set network.crop is 128, the model's 227)"
    ) in str(caught.value)


def test_images_smaller_than_the_crop_of_the_model_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"network.crop \(227\) exceeds size \(160\)"):
        resolve("paper", {}, [("size", 160)], started(IMPORTED["caffe"]))
