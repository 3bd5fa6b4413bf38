"""conv1 over the whole image against conv1 over one view after the other."""

import pytest
import torch
from torch import Tensor

from alexnet import overlap
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.views import five_places, ten_views, view_probabilities


def network(crop: int, **options: object) -> AlexNet:
    torch.manual_seed(0)
    config = AlexNetConfig(classes=10, width=0.1, crop=crop, **options)
    return AlexNet(config).eval().to(memory_format=torch.channels_last)


def images(side: int) -> Tensor:
    random = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8, generator=random)


def mean(crop: int) -> Tensor:
    return 100 + 40 * torch.rand(3, crop, crop, generator=torch.Generator().manual_seed(2))


def is_shared(model: object, side: int, crop: int) -> bool:
    return overlap.is_shared(model, images(side), mean(crop), five_places(side, crop))


@pytest.mark.parametrize(
    ("side", "crop"),
    [(256, 224), (160, 144), (160, 112), (72, 64), (73, 65), (74, 66), (259, 227)],
)
@torch.no_grad()
def test_maps_are_those_of_each_view(side: int, crop: int) -> None:
    """In double precision; the last row and column see 0 to 3 zeros."""
    model, places = network(crop), five_places(side, crop)
    assert is_shared(model, side, crop)
    found = overlap.conv1_maps(model, images(side), mean(crop), places)
    model.double()
    expected = torch.cat(
        [
            model.conv1(model.pad(view[None] - mean(crop).double()))
            for views in ten_views(images(side), crop)
            for view in views
        ]
    )
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"towers": 1},
        {"activation": "tanh"},
        {"local_response_norm": False},
        {"norm_k": 1, "norm_across_towers": True},
        {"norm_after_pool": True},
        {"order": "released"},
        {"pooling": "plain", "sixth_conv": True},
    ],
    ids=str,
)
@torch.inference_mode()
def test_probabilities_are_those_without_it(options: dict) -> None:
    """And conv1 is asked for less than half as many windows."""
    model = network(144, **options)
    model.fc8.weight *= 5  # as decided as a trained network
    windows = []
    model.conv1.register_forward_hook(lambda _, __, maps: windows.append(maps[:, 0].numel()))
    shared, alone = (
        view_probabilities(asked, images(160), mean(144), views=10)
        for asked in (model, model.forward)
    )
    assert alone.amax() > 0.15
    torch.testing.assert_close(shared, alone, atol=1e-5, rtol=0)
    assert sum(windows[:-1]) < windows[-1] / 2


@torch.no_grad()
def test_it_is_left_alone_where_it_does_not_apply() -> None:
    model = network(144)
    assert is_shared(model, 160, 144)
    assert not is_shared(model.forward, 160, 144)
    with torch.device("meta"):  # as on a GPU
        elsewhere = torch.empty(3, 3, 160, 160, dtype=torch.uint8)
    assert not overlap.is_shared(model, elsewhere, mean(144), five_places(160, 144))
    assert not is_shared(model, 162, 144)  # the centre is at 9
    assert not is_shared(network(144, conv1_padding=2), 160, 144)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_shared(model, 160, 144)
        probability_NVK = view_probabilities(model, images(160), mean(144), views=10)
    assert probability_NVK.shape == (3, 10, 10)
    with torch.enable_grad():
        assert not is_shared(model, 160, 144)
