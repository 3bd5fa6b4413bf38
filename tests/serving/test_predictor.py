"""Answers of a model, and of several, against the same computed picture by picture."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from alexnet.checkpoint import Checkpoint, CheckpointError, load
from alexnet.views import one_view, view_probabilities
from serving.pictures import overlay
from serving.predictor import PATCHES, Predictor
from tests.serving.conftest import SIZE, publish


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, SIZE, SIZE), dtype=torch.uint8, generator=random)


def test_several_models_answer_by_the_mean_of_each_view(tmp_path: Path, pictures: Tensor) -> None:
    members = [load(publish(tmp_path, f"m{seed}", seed=seed)) for seed in range(3)]
    expected = torch.stack(
        [view_probabilities(m.model, pictures, m.mean_3HW, 10) for m in members]
    ).mean(0)
    together = Predictor(members)
    torch.testing.assert_close(together.classify(pictures, 10), expected, rtol=0, atol=1e-6)
    assert together.name.name == "m0+m1+m2"
    assert together.name.sha256 not in [m.about.weights_sha256 for m in members]


def test_models_of_other_classes_do_not_answer_together(checkpoint: Checkpoint) -> None:
    about = checkpoint.about.model_copy(update={"classes": checkpoint.about.classes[::-1]})
    with pytest.raises(CheckpointError, match="their classes differ; serve them one by one"):
        Predictor([checkpoint, checkpoint._replace(about=about)])


def test_features_are_the_last_hidden_layer(checkpoint: Checkpoint, pictures: Tensor) -> None:
    features = Predictor([checkpoint]).features(pictures)
    logits = checkpoint.model.fc8(features)
    view = one_view(pictures, 64)[:, 0] - checkpoint.mean_3HW
    torch.testing.assert_close(logits, checkpoint.model(view), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_occlusion_is_the_mean_fall_of_all_patches_over_a_pixel(
    checkpoint: Checkpoint, pictures: Tensor
) -> None:
    label, side = 3, 64 // 5
    found = Predictor([checkpoint]).occlusion(pictures[:1], label)[0]
    view = one_view(pictures[:1], 64)[0, 0] - checkpoint.mean_3HW

    def probability(image: Tensor) -> float:
        return checkpoint.model(image[None]).softmax(1)[0, label].item()

    starts = [round(i * (64 - side) / (PATCHES - 1)) for i in range(PATCHES)]
    falls: dict[tuple[int, int], float] = {}
    for y in starts:
        for x in starts:
            hidden = view.clone()
            hidden[:, y : y + side, x : x + side] = 0
            falls[y, x] = probability(view) - probability(hidden)
    for row, column in ((0, 0), (63, 63), (30, 31), (5, 60), (17, 40)):
        over = [
            fall for (y, x), fall in falls.items() if y <= row < y + side and x <= column < x + side
        ]
        assert found[row, column].item() == pytest.approx(sum(over) / len(over), abs=1e-5)


def test_an_overlay_colours_what_the_map_says_and_nothing_else() -> None:
    photograph = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    effect = torch.zeros(8, 8)
    effect[0, 0], effect[7, 7] = 1, -1
    drawn = np.asarray(Image.open(BytesIO(overlay(photograph, effect)))).astype(int)
    coloured = np.argwhere(np.ptp(drawn, axis=2) > 1)
    assert coloured.tolist() == [[2, 2], [9, 9]]
    assert drawn[2, 2].argmax() == 0  # red: hiding it lowers the probability
    assert drawn[9, 9].argmax() == 2  # blue: hiding it raises it
