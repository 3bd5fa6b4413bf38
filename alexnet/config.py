"""Which network. Without torch, so that a command line that names one starts at once."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_SIZE = 1024
"""Rows and columns at most of the whole image that the network's views are cut from."""

Kernels = Annotated[int, Field(ge=1, le=4096)]


class Ablation(BaseModel):
    """What is taken away from the paper's network, or changed in it, to see what it is good for; by
    default nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    removed: Literal["conv3", "conv4", "conv5"] | None = None
    """A layer that is left out (§7); what it would have seen goes on to the next one."""
    links: bool = True
    """False: conv3, conv6, fc6 and fc7 see their own tower alone. fc8 sees both (configuration 150
    of the released code)."""
    deviation: float = Field(0.03, gt=0)
    """Standard deviation of the weights that conv3 to conv6 start with, at width 1. The paper's
    text (§5): 0.01."""
    inverted_dropout: bool = False
    """Outputs are scaled up in training, as by `nn.Dropout`, instead of down at test (§4.2)."""


class AlexNetConfig(BaseModel):
    """Options of the network: what the paper varies, what makes it smaller, and where torchvision's
    and Caffe's networks differ from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    classes: int = Field(1000, ge=2, le=100_000)
    towers: Literal[1, 2] = 2
    """2: the two-GPU network. 1: the one-GPU network of §3.2, half the kernels up to conv4."""
    kernels: tuple[Kernels, Kernels, Kernels, Kernels, Kernels] | None = None
    """Kernels of conv1 to conv5 at width 1, instead of the paper's."""
    conv1_padding: int = Field(0, ge=0, le=10)
    """Zeros to the left of the image and above it; to the right and below it are always as many
    as conv1's last window lacks. torchvision: 2."""
    local_response_norm: bool = True
    norm_k: float = Field(2.0, gt=0)
    """What the sum of squares is added to (§3.3). Caffe: 1."""
    norm_across_towers: bool = False
    """The normalisation's window runs on from one tower's maps to the other's. Caffe: it does."""
    norm_after_pool: bool = False
    """Layers 1 and 2 normalise what they have pooled, instead of pooling what they have normalised
    (§3.3). CaffeNet: they do."""
    order: Literal["paper", "released"] = "paper"
    """released: as configuration 145 of the released code, whose errors are the paper's. Layer 1
    rectifies what it has normalised and pooled; layer 2 also normalises over positions."""
    pooling: Literal["overlapping", "plain"] = "overlapping"
    """overlapping: 3x3 windows at stride 2. plain: 2x2, the other side of §3.4."""
    activation: Literal["relu", "tanh"] = "relu"
    dropout: float = Field(0.5, ge=0, lt=1)
    """Probability of a zero on the outputs of fc6 and fc7 (§4.2)."""
    sixth_conv: bool = False
    """One more convolution over the last pool, as in the networks pre-trained on Fall 2011 (§6)."""
    width: float = Field(1.0, gt=0, le=4)
    """Factor on the kernels and hidden units of every layer."""
    crop: int = Field(224, ge=64, le=512)
    """Rows and columns of the input."""
    ablation: Ablation = Field(Ablation(), exclude_if=lambda ablation: ablation == Ablation())
    """Written down only where there is one: other networks are described as before there was."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.order == "released" and self.norm_after_pool:
            raise ValueError(
                "order is released, which pools after normalising; leave out one of "
                "order and norm_after_pool"
            )
        if not self.ablation.links and (self.towers != 2 or self.norm_across_towers):
            raise ValueError(
                "ablation.links is false, which parts the two towers of a network; leave it out, "
                "or towers=1 and norm_across_towers"
            )
        return self

    @property
    def convolutions(self) -> tuple[str, ...]:
        """The names of the convolutions that this network has, from the image on."""
        every = ("conv1", "conv2", "conv3", "conv4", "conv5", "conv6")
        missing = self.ablation.removed, None if self.sixth_conv else "conv6"
        return tuple(name for name in every if name not in missing)
