"""A run's checkpoint: weights, velocity, validation errors, and where the next sample is."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from alexnet.model import AlexNet
from alexnet.store.models import load
from alexnet.store.store import Store
from alexnet.store.url import Place, StoreURL
from trainer.run import Run, RunError

FILE = "state.pt"
EARLIER = 1e-12
"""Part of its accuracy that an epoch loses to the one before: less than an image counts."""
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

    @property
    def score(self) -> float:
        """What tells the best checkpoints: the validation accuracy, of which that of an earlier
        epoch counts for a trifle more, so that it is kept among equal ones; 0 within an epoch."""
        if self.position or not self.errors:
            return 0.0
        return (1 - self.errors[-1]) * (1 - EARLIER * len(self.errors))

    @property
    def epochs_since_best(self) -> int:
        """Epochs after the one with the lowest validation error, the first of equal ones."""
        return len(self.errors) - 1 - self.errors.index(min(self.errors)) if self.errors else 0


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


def read(directory: Place) -> Saved:
    """What `Saved.write` wrote, on the CPU."""
    if isinstance(directory, StoreURL):
        with TemporaryDirectory(prefix="checkpoint.") as folder:
            Store(directory).fetch(FILE, Path(folder) / FILE)
            return read(Path(folder))
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


def begin(run: Run, mean_3HW: Tensor) -> AlexNet:
    """A network as initialised in 2012, or as published with another classifier; on the CPU, where
    it is the same for the same seed on every worker. `mean_3HW` is what the run subtracts."""
    torch.manual_seed(run.recipe.seed)
    model = AlexNet(run.recipe.network)
    if run.init_from:
        adopt(model, run.init_from, mean_3HW)
    return model


def adopt(model: AlexNet, published: Place, mean_3HW: Tensor) -> None:
    """Give `model` all layers of a published one but its classifier, as the networks pre-trained
    on Fall 2011 were fine-tuned (§6); a sixth convolution that only `model` has stays as it is.

    `mean_3HW` is subtracted from its images, and another was from those that the layers were
    trained on. The difference, as the mean of each channel, goes into the bias of conv1: so its
    maps of an image are what they were, but where they see zeros beyond the image's edge.
    """
    loaded = load(published)
    weights, state = loaded.model.state_dict(), model.state_dict()
    for name, tensor in state.items():
        if name.startswith(CLASSIFIER) or (name.startswith(ADDED) and name not in weights):
            continue
        tensor.copy_(weights[name])
    change_3 = (mean_3HW.cpu() - loaded.mean_3HW).mean(dim=(1, 2))
    state["conv1.bias"] += weights["conv1.weight"].sum(dim=(2, 3)) @ change_3
