"""The map of what hiding a part does, against the same computed patch by patch."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from alexnet.checkpoint import Checkpoint
from alexnet.predictor import Predictor
from alexnet.views import one_view
from serving.occlusion import PATCHES, occlusion
from serving.visualization import overlay
from tests.serving.conftest import SIZE


@torch.no_grad()
def test_occlusion_is_the_mean_fall_of_all_patches_over_a_pixel(checkpoint: Checkpoint) -> None:
    label, side = 3, 64 // 5
    random = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (1, 3, SIZE, SIZE), dtype=torch.uint8, generator=random)
    found = occlusion(image, Predictor([checkpoint]), label)[0]
    view = one_view(image, 64)[0, 0] - checkpoint.mean_3HW

    def probability(seen: Tensor) -> float:
        return checkpoint.model(seen[None]).softmax(1)[0, label].item()

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
