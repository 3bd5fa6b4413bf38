"""The golden image."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet import golden
from alexnet.checkpoint import About, load, save
from alexnet.command import UserError
from alexnet.model import AlexNet
from tests.alexnet.test_checkpoint import about


def test_it_is_the_same_image_for_ever() -> None:
    digest = hashlib.sha256(golden.image(256).tobytes()).hexdigest()
    assert digest == "ed3d8459a95a81349df6b80b6cb8f0ace6995bc84d9cb771a13232f6224f9198"
    assert golden.image(96).shape == (96, 96, 3)
    assert golden.image(256).std(axis=(0, 1)).min() > 30


@pytest.fixture
def published(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    described = about()
    model = AlexNet(described.network)
    torch.nn.init.normal_(model.fc8.weight, 0, 0.3)
    crop = described.network.crop
    return save(model, 100 * torch.rand(3, crop, crop), described, tmp_path)


def test_a_model_says_the_same_when_it_is_loaded(published: Path) -> None:
    model, mean_3HW, described, _ = load(published)
    assert described.golden is not None
    assert sum(described.golden.probabilities) <= 1 + 1e-6
    assert list(described.golden.probabilities) == sorted(described.golden.probabilities)[::-1]
    golden.check(model, mean_3HW, described.size, described.golden)


@pytest.mark.parametrize(
    "layer", ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
)
def test_another_computation_is_found_out_in_every_layer(published: Path, layer: str) -> None:
    model, mean_3HW, described, _ = load(published)
    getattr(model, layer).weight.mul_(1.2)
    with pytest.raises(UserError, match="differ by"):
        golden.check(model, mean_3HW, described.size, described.golden)


def test_no_numbers_are_no_answer(published: Path) -> None:
    model, mean_3HW, described, _ = load(published)
    model.fc7.weight[0, 0] = np.nan
    for expected in (described.golden, None):
        with pytest.raises(UserError, match="not finite numbers"):
            golden.check(model, mean_3HW, described.size, expected)
    with pytest.raises(UserError, match="diverged; publish an earlier checkpoint"):
        save(model, mean_3HW, about(step=8), published.parent.parent)
    assert sorted(path.name for path in published.parent.iterdir()) == [
        "00000007", "current.json",
    ]  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
def test_publishing_leaves_the_model_as_it_was(published: Path, training: bool) -> None:
    model, mean_3HW, described, _ = load(published)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save(model.train(training), mean_3HW, described, published.parent.parent)
    assert model.training == training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_models_from_before_have_none(published: Path) -> None:
    path = published / "about.json"
    described = About.model_validate_json(path.read_bytes())
    path.write_text(described.model_dump_json(exclude={"golden"}))
    model, mean_3HW, described, _ = load(published)
    assert described.golden is None
    golden.check(model, mean_3HW, described.size, described.golden)
