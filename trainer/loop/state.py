"""A run's checkpoint: weights, velocity, validation errors, and where the next sample is."""

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from alexnet.checkpoint import load
from alexnet.command import UserError
from alexnet.model import AlexNet
from trainer.run import Run, RunError

FILE = "state.pt"
CLASSIFIER, ADDED = "fc8.", "conv6."
"""Layers that a network started from a published one may not share with it."""


class Progress(BaseModel):
    """How far a run is."""

    model_config = ConfigDict(extra="forbid")

    epoch: int = 0
    position: int = 0
    """Samples of this epoch that have been learnt from."""
    step: int = 0
    """Updates of the weights so far."""
    errors: list[float] = []
    """Top-1 error on the validation images after each epoch, with one view."""


class Saved(BaseModel):
    """A checkpoint's content, the same however many workers there were and what each held."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", validate_by_name=True, serialize_by_alias=True
    )

    progress: Progress = Field(alias="stand")
    weights: dict[str, Tensor]
    velocity: dict[str, Tensor]
    """What `SGD2012.velocity` gives, by the parameters' names."""
    learning_rates: tuple[float, float] = Field(alias="rates")
    """The learning rates of weights and biases at the last step."""

    def write(self, directory: Path) -> None:
        """Write the checkpoint into `directory`. Raises RunError where the disk is full."""
        try:
            torch.save(self.model_dump(), directory / FILE)
        except (OSError, RuntimeError) as error:
            raise RunError(
                f"{directory / FILE}: the checkpoint cannot be written ({error}); free some disk "
                "space, then continue with --resume"
            ) from None


def read(directory: Path) -> Saved:
    """What `Saved.write` wrote, on the CPU."""
    try:
        content: dict[str, Any] = torch.load(
            directory / FILE, map_location="cpu", weights_only=True
        )
        return Saved.model_validate(content)
    except Exception as error:  # a cut or altered archive raises almost anything
        raise RunError(
            f"{directory / FILE}: the checkpoint cannot be read ({error}); remove its folder to "
            "continue from the one before it, or start another run"
        ) from error


def begin(run: Run) -> AlexNet:
    """A network as initialised in 2012, or as published with another classifier; on the CPU, where
    it is the same for the same seed on every worker."""
    torch.manual_seed(run.recipe.seed)
    model = AlexNet(run.recipe.network)
    if run.init_from:
        adopt(model, run.init_from)
    return model


def adopt(model: AlexNet, published: Path) -> None:
    """Give `model` all layers of a published one but its classifier, as the networks pre-trained
    on Fall 2011 were fine-tuned (§6); a sixth convolution that only `model` has stays as it is.
    Raises UserError where the layers are not of one shape."""
    weights = load(published).model.state_dict()
    for name, tensor in model.state_dict().items():
        if name.startswith(CLASSIFIER) or (name.startswith(ADDED) and name not in weights):
            continue
        if name not in weights or weights[name].shape != tensor.shape:
            found = (
                f"has the shape {list(weights[name].shape)}" if name in weights else "is missing"
            )
            raise UserError(
                f"{published}: the layer {name} {found}, but this network needs "
                f"{list(tensor.shape)}; give a model of the same network, or set this one's with "
                "--set network.width=... and the like"
            )
        tensor.copy_(weights[name])
