"""How a network is trained, whatever the data and the machines: frozen, and checked at birth."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from alexnet.command import UserError
from alexnet.config import MAX_SIZE, Ablation, AlexNetConfig
from alexnet.fault import LONGEST, Fault, fault
from alexnet.store.url import Place
from pipeline.manifest import Mean
from pipeline.order import Cropping, Ordering
from trainer.schedule import Cosine, Fixed, Schedule

VARIABLE = "ALEXNET_RECIPE_"
"""Environment variables that start so override a recipe: ALEXNET_RECIPE_NETWORK__WIDTH=0.5."""


Layer = Literal["conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7", "fc8"]


class RecipeError(UserError):
    """A recipe that cannot be read; the text names where it comes from and the remedy."""


def _listed(layers: Any) -> Any:
    """conv1,conv2 -> [conv1, conv2]; of a list, each of its words."""
    words = [layers] if isinstance(layers, str) else layers
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        return layers
    return [name.strip() for word in words for name in word.split(",")]


Frozen = Annotated[
    tuple[Literal["conv", "conv1", "conv2", "conv3", "conv4", "conv5", "conv6", "fc6", "fc7"], ...],
    BeforeValidator(_listed),
]
"""Layers by name; conv means all convolutions. fc8 is the classifier, and always learns."""


class Recipe(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    network: AlexNetConfig
    """The network; its `classes` are replaced by the dataset's."""
    size: int = Field(ge=64, le=MAX_SIZE)
    """Rows and columns of the packed images that the crop is taken from."""
    batch: int = Field(128, ge=1, lt=2**31)
    """Samples per step over all workers (§5)."""
    epochs: int = Field(ge=1, lt=2**31)
    least_steps: int = Field(0, ge=0, lt=2**31)
    """Steps that a run takes at least: where the epochs make fewer, it has more epochs."""
    stop_after: int | None = Field(None, ge=1)
    """Epochs without a new lowest validation error after which the run ends; None: it does not."""
    rate: float = Field(0.01, gt=0)
    """Learning rate of the weights at the start; biases learn twice as fast."""
    layer_rates: dict[Layer, Annotated[float, Field(gt=0)]] = {}
    """Factors of the learning rate, by layer, of its weights and biases; 1 where none is given."""
    schedule: Annotated[Schedule, Field(discriminator="kind")]
    warmup: float = Field(0, ge=0)
    """Epochs over which the learning rate first rises to its full size."""
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0005, ge=0)
    """Share of the weights that a step takes away, times the learning rate; biases do not decay."""
    balance: Literal["none", "loss", "sampling"] = "none"
    """What is done about classes of uneven size. loss: the loss of an image has a weight, inverse
    to the size of its class, 1 in the mean over the training images. sampling: an epoch, of as many
    images as ever, draws each class equally often."""
    mean: Mean = "pixel"
    """What is subtracted: the mean image, or the mean of each channel."""
    order: Ordering = "random"
    """random: each epoch has the training images in an order of its own. fixed: all have them in
    the order of the first, as in 2012, when they had been shuffled once."""
    crops: Cropping = "random"
    """Where the crops of training images are taken: at a random place (§4.1), or all at the
    centre."""
    mirrors: bool = True
    """Whether half of the training images, by chance, are mirrored (§4.1). The ten views that a
    network is tested by are the paper's, whatever this and `crops` say."""
    colour_until: float = Field(1, ge=0, le=1)
    """Part of the run after which images keep their colour; off late in 2012."""
    conv1_until: float = Field(1, ge=0, le=1)
    """Part of the run after which conv1 is frozen; late in 2012."""
    freeze: Frozen = ()
    """Layers that keep the weights they start with."""
    folded: dict[Layer, tuple[Annotated[float, Field(gt=0)], ...]] = {}
    """What an import multiplied the weights of a layer by, one factor or one for each colour: the
    layer learns as its weights would have without. A run has it from the model it starts from."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bfloat16 autocast on hardware that multiplies in it, else float32."""
    gradients: Literal["fp32", "bf16"] = "fp32"
    """What workers send each other: bf16 halves the traffic and rounds the sum."""
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.network.crop > self.size:
            raise ValueError(
                f"network.crop ({self.network.crop}) exceeds size ({self.size}): the crop is taken "
                "from an image of that size; make it smaller, or the images larger"
            )
        there = {*self.network.convolutions, "conv", "fc6", "fc7", "fc8"}
        # `finetune` has learning rates for all layers, also where a model has not all.
        rates = self.layer_rates.keys() - {self.network.ablation.removed}
        if missing := sorted({*self.freeze, *rates} - there):
            raise ValueError(f"there is no layer {missing[0]} in this network; leave it out")
        if self.order == "fixed" and self.balance == "sampling":
            raise ValueError(
                "order is fixed, but balance is sampling, which draws other images in each epoch; "
                "leave one of them out"
            )
        for layer, factors in self.folded.items():
            if len(factors) not in ((1, 3) if layer == "conv1" else (1,)):
                raise ValueError(f"folded.{layer} has {len(factors)} factors; expected 1")
        return self

    @property
    def frozen(self) -> tuple[str, ...]:
        """The layers of `freeze`, from the image on."""
        convolutions = self.network.convolutions
        asked = {*self.freeze, *(convolutions if "conv" in self.freeze else ())}
        return tuple(layer for layer in (*convolutions, "fc6", "fc7") if layer in asked)


class Start(NamedTuple):
    """A published model whose weights a run starts from, and what they were made for."""

    model: Place
    """models/NAME/STEP, absolute."""
    network: AlexNetConfig
    size: int
    """Rows and columns of the images that its crops are now taken from."""
    folded: Mapping[str, Sequence[float]] = {}
    """As in a recipe."""

    def differences(self, asked: AlexNetConfig) -> Iterator[str]:
        """The fields of `asked` that would make another network; the number of classes may differ,
        and a sixth convolution be added."""
        wanted = _fields(asked)
        for field, own in _fields(self.network).items():
            added = field == "sixth_conv" and not own
            if field != "classes" and not added and wanted[field] != own:
                yield field


def _fields(network: AlexNetConfig) -> dict[str, Any]:
    """What each field of a network is, by its dotted name."""
    fields = dict(network)
    ablation: Ablation = fields.pop("ablation")
    return fields | {f"ablation.{name}": value for name, value in ablation}


def paper() -> Recipe:
    """§5 with the schedule, colour and conv1 of the author's later config 170, which does by the
    clock what he had done by hand: noise off at epoch 68 of 95, conv1 frozen at 74."""
    return Recipe(
        name="paper",
        network=AlexNetConfig(),
        size=256,
        epochs=90,
        schedule=Fixed(),
        colour_until=68 / 95,
        conv1_until=74 / 95,
    )


def fast() -> Recipe:
    """`paper` at four times the batch and the learning rate, after a warm-up, in 16 bits: fewer,
    fuller steps.

    Twice the batch at twice the learning rate matched the author's own run
    (layer-params-170-256-double.cfg).
    """
    changes = {"name": "fast", "batch": 512, "rate": 0.04, "warmup": 5, "gradients": "bf16"}
    return paper().model_copy(update=changes)


def small() -> Recipe:
    """Half the width on 144 of 160 pixels: minutes on a laptop for ten thousand images.

    So few steps need a batch of 64, at the full learning rate, and half a cosine instead of drops.
    """
    return Recipe(
        name="small",
        network=AlexNetConfig(width=0.5, crop=144),
        size=160,
        batch=64,
        epochs=12,
        schedule=Cosine(),
        colour_until=68 / 95,
        conv1_until=74 / 95,
    )


def finetune() -> Recipe:
    """What a model has learnt, for other classes of which there are some hundred photographs.

    The author brought his networks for Fall 2011 to ILSVRC-2012 at 0.001 where weights were taken
    over and 0.0001 for conv1, with two drops and conv1 frozen after 13 % of the run
    (layer-params-146-2012-2011.cfg): classes of which the network had seen most, and 1.2 million
    images. From a network of seven classes, on photographs of three others, that gained little over
    training from scratch, and lost with 200 a class. So here all of these layers learn at 0.005 and
    the learning rate falls by half a cosine; noise and conv1 are as in `small`.

    His fc8 learnt at 0.01, among 1,000 classes. Gradient descent with momentum m swings further and
    further where the learning rate exceeds 2 (1 + m) over the curvature. That of fc8 is the mean
    square length of its input times the largest eigenvalue of diag(p) - p p', which is 1/K for K
    classes that are equally likely. Of a network of full width that has hardly been trained the
    first is some 1,900, so three classes bear 0.006: at 0.01 the loss went from 1.4 to 14.8, and
    stayed above that of a guess for 60 steps. 0.002 leaves room for two classes.

    He had 1.2 million images. Of some hundred a batch of 128 would make a handful of steps an
    epoch: 32 make four times as many. Of 30 photographs 30 epochs are 30 steps, too few for fc8,
    which starts from nothing; so there are at least 200.
    """
    taken_over = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7")
    return Recipe(
        name="finetune",
        network=AlexNetConfig(),
        size=256,
        batch=32,
        epochs=30,
        least_steps=200,
        rate=0.002,
        layer_rates=dict.fromkeys(taken_over, 2.5),
        schedule=Cosine(),
        colour_until=68 / 95,
        conv1_until=74 / 95,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    "paper": paper,
    "fast": fast,
    "small": small,
    "finetune": finetune,
}


def resolve(
    recipe: str,
    environment: Mapping[str, str],
    changes: Sequence[tuple[str, Any]],
    start: Start | None = None,
) -> Recipe:
    """The recipe of that name, or of that YAML file, with what the environment and then `changes`
    (dotted field, value) say. Where the batch changes and the learning rate is not given, the
    learning rate goes with it. Epochs that are given are kept to, however few steps
    they make. The network and the size of the images are those of `start`, where there is one.
    Raises RecipeError, also where a network is asked for that is not that of `start`.
    """
    base, overrides = (RECIPES[recipe](), {}) if recipe in RECIPES else _from_file(recipe)
    if start:
        base = base.model_copy(update={"network": start.network, "size": start.size})
    sources = {}
    for variable, text in environment.items():
        if variable.startswith(VARIABLE):
            field = variable.removeprefix(VARIABLE).lower().replace("__", ".")
            overrides = _with(overrides, field, parse(text, variable), variable)
            sources[field] = variable
    for field, value in changes:
        overrides = _with(overrides, field, value, f"--set {field}")
        sources[field] = f"--set {field}"
    try:
        if "batch" in overrides and "rate" not in overrides:
            # The author's runs at twice the batch matched at twice the learning rate.
            batch = Recipe.model_validate(base.model_dump() | {"batch": overrides["batch"]}).batch
            overrides["rate"] = base.rate * batch / base.batch
        if "epochs" in overrides:
            overrides = {"least_steps": 0} | overrides
        inherited = {"folded": start.folded} if start else {}
        resolved = Recipe.model_validate(_merged(base.model_dump() | inherited, overrides))
    except ValidationError as error:
        raise RecipeError(_line(_reason(fault(error), sources, recipe))) from None
    if start and (fields := list(start.differences(resolved.network))):
        asked, own = _fields(resolved.network), _fields(start.network)
        said = [
            f"{_source(f'network.{field}', sources, recipe)} is {asked[field]}, the model's "
            f"{own[field]}"
            for field in fields
        ]
        raise RecipeError(
            f"{start.model}: a run that starts from this model has its network, but another is "
            f"asked for ({'; '.join(said)}); leave that out"
        )
    return resolved


def _reason(found: Fault, sources: Mapping[str, str], recipe: str) -> str:
    """What is wrong, after the option, variable or file that says so."""
    place = [str(part) for part in found.place]
    if len(place) > 1 and place[0] == "schedule":
        del place[1]  # pydantic puts the kind of the schedule there
    field = ".".join(place)
    source = _source(field, sources, recipe)
    if found.kind == "extra_forbidden":
        return f"{source}: a recipe has no field {field}; `alexnet recipe` prints those there are"
    if place[-1:] == ["[key]"]:
        return f"{source}: {found.reason}"
    return found.named(source)


def _source(field: str, sources: Mapping[str, str], recipe: str) -> str:
    """The option or variable that says what the dotted field is, or the recipe that does."""
    given = [
        name
        for name in sources
        if f"{field}.".startswith(f"{name}.") or f"{name}.".startswith(f"{field}.")
    ]
    return sources[max(given, key=len)] if given else f"{recipe}: {field}"


def parse(text: str, place: str) -> Any:
    """A value as in YAML: 3, 0.5, true, {kind: plateau}. Raises RecipeError."""
    if not text.strip():
        raise RecipeError(f"{place} is empty; give it a value, or leave it out")
    try:
        return _loaded(text)
    except ValueError as error:
        shown = text if len(text) <= LONGEST else text[:LONGEST] + "…"
        raise RecipeError(f"{place}: {shown!r} is not valid YAML ({_line(error)})") from None


def _loaded(text: str) -> Any:
    """What YAML makes of the text. Raises ValueError."""
    try:
        value = yaml.safe_load(text)
        str(value)  # Python refuses to write out a number of thousands of digits
    except Exception as error:  # almost anything, such as KeyError for `!!bool x`
        raise ValueError(str(error)) from None
    return value


def _from_file(name: str) -> tuple[Recipe, dict[str, Any]]:
    """A YAML file of a recipe's fields; `recipe` in it names the one it starts from."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = ", ".join(RECIPES)
        raise RecipeError(
            f"there is no recipe {name!r}; give {known}, or a file that ends in .yaml"
        )
    try:
        fields = _loaded(path.read_text())
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}; check the path") from None
    except ValueError as error:
        raise RecipeError(f"{path}: this is not a valid YAML file ({_line(error)})") from None
    start = fields.pop("recipe", None) if isinstance(fields, dict) else None
    if not isinstance(start, str) or start not in RECIPES:
        known = ", ".join(RECIPES)
        said = "" if start is None else f"there is no recipe {start!r}; "
        raise RecipeError(
            f"{path}: {said}add a line `recipe: NAME` with the recipe it changes, {known}"
        )
    return RECIPES[start](), {"name": path.stem} | fields


def _with(fields: dict[str, Any], dotted: str, value: Any, source: str) -> dict[str, Any]:
    """`fields` where the dotted one has this value. Raises RecipeError."""
    groups = dotted.split(".")
    group: Any = fields
    for name in groups[:-1]:
        group = group.get(name, {})
        if not isinstance(group, dict):
            raise RecipeError(f"{source}: {name} has no fields, its value is {group} already")
    for name in reversed(groups):
        value = {name: value}
    return _merged(fields, value)


def _merged(fields: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` with `changes`; groups are merged, but a schedule of another kind is taken whole."""
    merged = dict(fields)
    for name, value in changes.items():
        old = merged.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            others = "kind" in old and "kind" in value and old["kind"] != value["kind"]
            value = value if others else _merged(old, value)
        merged[name] = value
    return merged


def _line(text: object) -> str:
    return " ".join(str(text).split())
