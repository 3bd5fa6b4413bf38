"""How a network is trained, whatever the data and the machines: frozen, and checked at birth."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from alexnet.command import UserError
from alexnet.config import MAX_SIZE, Ablation, AlexNetConfig
from alexnet.store.url import Place
from pipeline.manifest import Mean
from pipeline.order import Cropping, Ordering
from trainer.schedule import Schedule

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
        wanted = fields_of(asked)
        for field, own in fields_of(self.network).items():
            added = field == "sixth_conv" and not own
            if field != "classes" and not added and wanted[field] != own:
                yield field


def fields_of(network: AlexNetConfig) -> dict[str, Any]:
    """What each field of a network is, by its dotted name."""
    fields = dict(network)
    ablation: Ablation = fields.pop("ablation")
    return fields | {f"ablation.{name}": value for name, value in ablation}
