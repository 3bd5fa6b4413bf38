"""What a run goes on from, and what it may start from."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from alexnet.checkpoint import About, load, save
from alexnet.classes import ClassLabel
from alexnet.model import AlexNet, AlexNetConfig
from trainer.loop.state import FILE, Progress, Saved, adopt, read
from trainer.run import RunError

TINY = AlexNetConfig(classes=4, width=0.05, crop=64)


def published(config: AlexNetConfig, models: Path) -> Path:
    torch.manual_seed(7)
    about = About(
        name="first",
        step=0,
        network=config,
        classes=tuple(ClassLabel(id=str(k), name=str(k)) for k in range(config.classes)),
        size=72,
        dataset="",
        recipe={},
        trained_at=datetime.now(UTC),
        versions={},
    )
    mean_3HW = torch.full((3, config.crop, config.crop), 120.0)
    return save(AlexNet(config), mean_3HW, about, models)


def test_what_is_saved_is_read(tmp_path: Path) -> None:
    saved = Saved(
        progress=Progress(epoch=2, position=64, step=30, errors=[0.9, 0.5]),
        weights={"fc8.bias": torch.randn(4)},
        velocity={"fc8.bias": torch.randn(4)},
        learning_rates=(0.01, 0.02),
    )
    saved.write(tmp_path)
    again = read(tmp_path)
    assert again.progress == saved.progress
    assert again.learning_rates == saved.learning_rates
    assert torch.equal(again.weights["fc8.bias"], saved.weights["fc8.bias"])
    assert torch.equal(again.velocity["fc8.bias"], saved.velocity["fc8.bias"])


def test_the_state_of_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"half a zip")
    with pytest.raises(
        RunError, match=r"state.pt: the checkpoint cannot be read .* remove its folder"
    ):
        read(tmp_path)


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    saved = Saved(progress=Progress(), weights={}, velocity={}, learning_rates=(0.01, 0.02))
    with pytest.raises(RunError, match="the checkpoint cannot be written"):
        saved.write(tmp_path / "absent")


@pytest.mark.parametrize("change", [{"classes": 9}, {"classes": 2, "sixth_conv": True}])
def test_a_published_network_is_fine_tuned_with_a_new_classifier(
    tmp_path: Path, change: dict
) -> None:
    """And with a sixth convolution, as config 146 was made of 145 (§6)."""
    directory = published(TINY, tmp_path)
    torch.manual_seed(7)
    old = AlexNet(TINY).state_dict()
    model = AlexNet(TINY.model_copy(update=change))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adopt(model, directory, load(directory).mean_3HW)
    for name, tensor in model.state_dict().items():
        new = name.startswith(("fc8.", "conv6."))
        assert torch.equal(tensor, before[name] if new else old[name]), name


def test_it_sees_images_as_before_under_another_mean(tmp_path: Path) -> None:
    """At a crop that conv1's windows fill, so that none sees beyond the edge."""
    network = TINY.model_copy(update={"crop": 67})
    directory = published(network, tmp_path)
    old, mean_3HW, _, _ = load(directory)
    other_3HW = mean_3HW + torch.tensor([20.0, -35.0, 4.0])[:, None, None]
    model = AlexNet(network).eval()
    adopt(model, directory, other_3HW)
    image_N3HW = 255 * torch.rand(2, 3, 67, 67)
    expected = old.features(image_N3HW - mean_3HW)
    found = model.features(image_N3HW - other_3HW)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.std().item())
