"""A published model that several tests ask."""

from pathlib import Path

import pytest
import torch

from alexnet import checkpoint
from alexnet.checkpoint import About
from alexnet.model import AlexNet, AlexNetConfig
from pipeline.dataset import Dataset
from serving.index import build


@pytest.fixture(scope="session")
def indexed(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The step's directory of an untrained network for `dataset`, its training pictures indexed."""
    torch.manual_seed(0)
    packed = Dataset(dataset)
    network = AlexNetConfig(classes=len(packed.manifest.classes), width=0.1, crop=64)
    about = About(
        name="tiny", step=1, network=network, size=packed.manifest.size, dataset=packed.digest,
        recipe={}, versions={}, classes=packed.manifest.classes, trained_at=None,
    )  # fmt: skip
    models = tmp_path_factory.mktemp("models")
    step = checkpoint.save(AlexNet(network), torch.full((3, 64, 64), 110.0), about, models)
    build(step.parent, dataset)
    return step
