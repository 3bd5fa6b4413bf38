"""What a run goes on from, and what it may start from."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from alexnet.checkpoint import About, save
from alexnet.classes import ClassLabel
from alexnet.command import UserError
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
    return save(AlexNet(config), torch.zeros(3, 64, 64), about, models)


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
    adopt(model, directory)
    for name, tensor in model.state_dict().items():
        new = name.startswith(("fc8.", "conv6."))
        assert torch.equal(tensor, before[name] if new else old[name]), name


def test_a_network_of_another_shape_is_no_start(tmp_path: Path) -> None:
    directory = published(TINY, tmp_path)
    wide = AlexNet(TINY.model_copy(update={"width": 0.1}))
    with pytest.raises(
        UserError, match=r"layer conv1.weight has the shape \[4, 3, .* needs \[10, 3, "
    ):
        adopt(wide, directory)
