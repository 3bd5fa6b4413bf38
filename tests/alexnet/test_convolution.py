"""Convolution by transforms against the definition in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.convolution import Convolution, nnpack_available
from alexnet.model import AlexNet, AlexNetConfig

LAYERS = {  # as in the network, with fewer maps: (channels, kernels, side, padding, groups), map
    "conv2": ((6, 10, 5, 2, 2), 27),
    "conv2, plain pooling": ((6, 10, 5, 1, 2), 28),
    "conv2, one tower": ((5, 7, 5, 2, 1), 27),
    "conv2, crop 144": ((6, 10, 5, 2, 2), 17),
    "conv3": ((8, 9, 3, 1, 1), 13),
    "conv4": ((8, 6, 3, 1, 2), 13),
    "conv5, plain pooling": ((6, 8, 3, 0, 2), 13),
    "conv3, crop 512": ((5, 7, 3, 1, 1), 31),
    "conv3, crop 112": ((5, 7, 3, 1, 1), 6),
}
BY_WINOGRAD = {"conv5, plain pooling", "conv3, crop 512", "conv3, crop 112"}
"""What NNPACK takes for 3 x 3 kernels where its small tiles fit; it errs more than Fourier's."""


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Layers are computed by transforms, however small."""
    monkeypatch.setattr("alexnet.convolution.FEWEST_CHANNELS", 0)
    monkeypatch.setattr("alexnet.convolution.FEWEST_POSITIONS", 0)
    return monkeypatch


def passes(layer: nn.Module, x_NCHW: Tensor, pull_NKHW: Tensor) -> list[Tensor]:
    """Output and gradients of input, weight and bias."""
    x_NCHW = x_NCHW.detach().requires_grad_()
    result = layer(x_NCHW)
    parameters = [layer.weight, layer.bias]
    return [result, *torch.autograd.grad(result, [x_NCHW, *parameters], pull_NKHW)]


def plain(layer: Convolution) -> nn.Conv2d:
    """The layer in double precision, by torch's direct method."""
    twin = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size,
        padding=layer.padding, groups=layer.groups,
    )  # fmt: skip
    twin.load_state_dict(layer.state_dict())
    return twin.double()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.usefixtures("always")
def test_all_passes_are_those_of_the_definition(name: str) -> None:
    (channels, kernels, side, padding, groups), maps = LAYERS[name]
    torch.manual_seed(0)
    layer = Convolution(channels, kernels, side, padding=padding, groups=groups)
    x_NCHW = torch.randn(5, channels, maps, maps).to(memory_format=torch.channels_last)
    assert layer._pays(x_NCHW)
    pull_NKHW = torch.randn_like(layer(x_NCHW))
    found = passes(layer, x_NCHW, pull_NKHW)
    expected = passes(plain(layer), x_NCHW.double(), pull_NKHW.double())
    for ours, exact in zip(found, expected, strict=True):
        error = (ours - exact).abs().max() / exact.abs().max()
        assert error < (3e-5 if name in BY_WINOGRAD else 1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"crop": 64},
        {"crop": 112},
        {"crop": 224},
        {"crop": 112, "towers": 1},
        {"crop": 112, "activation": "tanh"},
        {"crop": 112, "local_response_norm": False},
        {"crop": 112, "pooling": "plain", "sixth_conv": True},
    ],
    ids=str,
)
def test_the_network_is_the_same_by_either_method(
    options: dict, always: pytest.MonkeyPatch
) -> None:
    """Logits and every gradient; dropout's masks are seeded."""
    torch.manual_seed(1)
    config = AlexNetConfig(classes=10, width=0.1, **options)
    model = AlexNet(config).to(memory_format=torch.channels_last)
    # Saturated tanh would tie in the pool, and rounding choose which gets the gradient.
    image_NCHW = 5 * torch.randn(2, 3, config.crop, config.crop)
    image_NCHW = image_NCHW.to(memory_format=torch.channels_last)
    results = []
    for fewest in (0, 10**9):
        always.setattr("alexnet.convolution.FEWEST_POSITIONS", fewest)
        torch.manual_seed(2)
        logit_NK = model(image_NCHW)
        gradients = torch.autograd.grad(logit_NK.square().sum(), list(model.parameters()))
        results.append([logit_NK, *gradients])
    for fast, direct in zip(*results, strict=True):
        assert (fast - direct).abs().max() < 1e-4 * direct.abs().max()


def test_it_is_left_alone_where_it_does_not_pay_or_does_not_exist() -> None:
    layer = Convolution(96, 96, 3, padding=1)
    assert layer._pays(torch.zeros(64, 96, 8, 8))
    assert not layer._pays(torch.zeros(63, 96, 8, 8))
    assert not layer._pays(torch.zeros(64, 96, 8, 8, dtype=torch.float64))
    assert not layer._pays(torch.zeros(64, 96, 8, 8, device="meta"))
    assert not Convolution(96, 96, 3, groups=3)._pays(torch.zeros(64, 96, 8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.zeros(64, 96, 8, 8)).dtype == torch.bfloat16
    x_NCHW = torch.randn(2, 96, 8, 8)
    direct = F.conv2d(x_NCHW, layer.weight, layer.bias, padding=1)
    torch.testing.assert_close(layer(x_NCHW), direct, rtol=0, atol=0)


def test_torch_has_nnpack_still_under_the_names_that_are_used() -> None:
    """An upgrade of torch that renames it would only be slower, and nothing else would tell."""
    assert nnpack_available()


@pytest.mark.parametrize("name", ["_nnpack_available", "_nnpack_spatial_convolution"])
def test_without_nnpack_torchs_own_is_used(always: pytest.MonkeyPatch, name: str) -> None:
    always.delattr(torch, name)
    layer, x_NCHW = Convolution(6, 10, 5, padding=2, groups=2), torch.randn(3, 6, 27, 27)
    assert torch.equal(layer(x_NCHW), nn.Conv2d.forward(layer, x_NCHW))
