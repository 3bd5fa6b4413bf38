"""Published models that need no training: what they answer matters, not how good it is."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from alexnet import checkpoint
from alexnet.checkpoint import About
from alexnet.classes import ClassLabel
from alexnet.model import AlexNet, AlexNetConfig

Publish = Callable[..., Path]


@pytest.fixture(scope="session")
def publish(tmp_path_factory: pytest.TempPathFactory) -> Publish:
    """Publish a random network of the given classes; returns models/NAME."""
    models = tmp_path_factory.mktemp("models")

    def random_model(
        name: str, classes: tuple[str, ...] = ("disc", "ring", "square"), *, crop: int, size: int
    ) -> Path:
        torch.manual_seed(crop)  # the same, whichever tests ran before
        network = AlexNetConfig(classes=len(classes), width=0.1, crop=crop)
        model = AlexNet(network)
        with torch.no_grad():  # or else one class is the answer to every image
            model.fc8.bias -= model.eval()(60 * torch.randn(50, 3, crop, crop)).mean(0)
        mean_3HW = torch.full((3, crop, crop), 120.0)
        about = About(
            name=name,
            step=7,
            network=network,
            classes=tuple(ClassLabel(id=i, name=i.title()) for i in classes),
            size=size,
            dataset="",
            recipe={"precision": "fp32"},
            trained_at=checkpoint.now(),
            versions={},
        )
        checkpoint.save(model, mean_3HW, about, models)
        return models / name

    return random_model


@pytest.fixture(scope="session")
def two_models(publish: Publish) -> tuple[Path, Path]:
    """Models for the images of `dataset`, with different crops."""
    return publish("wide", crop=112, size=128), publish("narrow", crop=96, size=128)


@pytest.fixture(scope="session")
def small_models(publish: Publish) -> tuple[Path, Path]:
    """Models for images of 72 x 72, with different crops."""
    return publish("small", crop=64, size=72), publish("smaller", crop=68, size=72)
