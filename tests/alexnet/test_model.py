"""The network against the paper's numbers and against slow references written out."""

import pytest
import torch
from torch import Tensor

from alexnet.model import AlexNet, AlexNetConfig, Dropout2012
from alexnet.norm import LocalResponseNorm, norm_over_positions

PARAMETERS = {
    "conv1": 34_944, "conv2": 307_456, "conv3": 885_120, "conv4": 663_936, "conv5": 442_624,
    "fc6": 37_752_832, "fc7": 16_781_312, "fc8": 4_097_000,
}  # fmt: skip
INITIAL = {  # deviation of the weights, bias: layers-145.cfg of the 2012 code
    "conv1": (0.01, 0), "conv2": (0.01, 1), "conv3": (0.03, 0), "conv4": (0.03, 1),
    "conv5": (0.03, 1), "fc6": (0.01, 1), "fc7": (0.01, 1), "fc8": (0.01, 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def full() -> AlexNet:
    torch.manual_seed(0)
    return AlexNet(AlexNetConfig())


def shapes(model: AlexNet, image_NCHW: Tensor) -> dict[str, tuple[int, ...]]:
    """Name of each layer -> shape of what it puts out, in order."""
    seen: dict[str, tuple[int, ...]] = {}

    def note(name: str, output: Tensor) -> None:
        seen.setdefault(name, tuple(output.shape[1:]))

    for name, layer in model.named_children():
        layer.register_forward_hook(lambda _, __, output, name=name: note(name, output))
    model(image_NCHW)
    return seen


def test_parameters_of_each_layer(full: AlexNet) -> None:
    counted = {
        name: sum(p.numel() for p in layer.parameters()) for name, layer in full.named_children()
    }
    assert {name: n for name, n in counted.items() if n} == PARAMETERS
    assert sum(counted.values()) == 60_965_224


def test_shapes_are_those_of_figure_2() -> None:
    seen = shapes(AlexNet(AlexNetConfig()), torch.zeros(1, 3, 224, 224))
    assert seen["conv1"] == (96, 55, 55)
    assert seen["conv2"] == (256, 27, 27)
    assert seen["conv3"] == seen["conv4"] == (384, 13, 13)
    assert seen["conv5"] == (256, 13, 13)
    assert seen["fc6"] == seen["fc7"] == (4096,)


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        ({"towers": 1}, 59_798_312),  # the one-GPU network, config 145-half
        ({"sixth_conv": True}, 61_555_304),  # config 146
        ({"pooling": "plain"}, 60_965_224),  # config 147: fc6 sees 6x6 again
        ({"local_response_norm": False}, 60_965_224),
        ({"activation": "tanh"}, 60_965_224),
        ({"crop": 227, "norm_k": 1, "norm_across_towers": True}, 60_965_224),  # bvlc_alexnet
        ({"order": "released"}, 60_965_224),  # config 145
        ({"norm_after_pool": True}, 60_965_224),  # bvlc_reference_caffenet
        (
            {
                "towers": 1,
                "kernels": (64, 192, 384, 256, 256),
                "conv1_padding": 2,
                "local_response_norm": False,
            },
            61_100_840,  # torchvision
        ),
    ],
)
def test_variants_of_the_paper(options: dict, parameters: int) -> None:
    model = AlexNet(AlexNetConfig(**options))
    assert model(torch.zeros(1, 3, model.config.crop, model.config.crop)).shape == (1, 1000)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_released_order_is_that_of_layers_145() -> None:
    """conv1, rnorm1, pool1, ReLU; conv2, ReLU, rnorm2, cnorm2, pool2."""
    torch.manual_seed(5)
    model = AlexNet(AlexNetConfig(width=0.1, crop=96, classes=5, order="released")).eval()
    image = 70 * torch.randn(2, 3, 96, 96)
    seen: list[Tensor] = []
    model.conv3.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(image)
        x = LocalResponseNorm.apply(model.conv1(model.pad(image)), 2)
        x = torch.relu(model.pool(x))
        x = torch.relu(model.conv2(x))
        x = model.pool(norm_over_positions(LocalResponseNorm.apply(x, 2)))
    torch.testing.assert_close(seen[0], x)
    with pytest.raises(ValueError, match="leave out one of order and norm_after_pool"):
        AlexNetConfig(order="released", norm_after_pool=True)


@pytest.mark.parametrize("crop", [64, 96, 112, 128, 160, 223, 224, 227])
@pytest.mark.parametrize("pooling", ["overlapping", "plain"])
@pytest.mark.parametrize("padding", [0, 2])
def test_any_crop_and_pooling_fits_fc6(crop: int, pooling: str, padding: int) -> None:
    config = AlexNetConfig(crop=crop, pooling=pooling, conv1_padding=padding, width=0.1, classes=7)
    model = AlexNet(config)
    assert model(torch.zeros(2, 3, crop, crop)).shape == (2, 7)


def test_conv1_reads_zeros_to_the_right_and_bottom(full: AlexNet) -> None:
    """Window 54 starts at pixel 216 and has only 8 of its 11 columns and rows."""
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    padded = torch.zeros(1, 3, 227, 227)
    padded[..., :224, :224] = image
    found = full.conv1(full.pad(image))
    for y, x in ((0, 0), (54, 54), (0, 54), (54, 7)):
        window = padded[0, :, 4 * y : 4 * y + 11, 4 * x : 4 * x + 11]
        expected = (full.conv1.weight * window).sum((1, 2, 3)) + full.conv1.bias
        torch.testing.assert_close(found[0, :, y, x], expected, atol=1e-5, rtol=1e-5)


def test_initial_weights_and_biases(full: AlexNet) -> None:
    for name, (deviation, bias) in INITIAL.items():
        layer = getattr(full, name)
        assert layer.weight.std().item() == pytest.approx(deviation, rel=0.02), name
        assert layer.weight.mean().abs().item() < deviation / 50, name
        assert (layer.bias == bias).all(), name


def test_a_half_width_network_starts_with_the_same_signal() -> None:
    """Deviation between images of what each layer puts out, full size against half."""
    random = torch.Generator().manual_seed(2)
    smooth = torch.nn.functional.interpolate(
        70 * torch.randn(24, 3, 14, 14, generator=random), 224, mode="bilinear"
    )
    deviations = []
    for config, image in (
        (AlexNetConfig(classes=10), smooth),
        (AlexNetConfig(classes=10, width=0.5, crop=112), smooth[..., 56:168, 56:168]),
    ):
        torch.manual_seed(3)
        with torch.no_grad():
            logit_NK = AlexNet(config).eval()(image)
        deviations.append(logit_NK.std(dim=0).mean().item())
    assert 0.5 < deviations[1] / deviations[0] < 2


def test_towers_meet_only_at_conv3_and_the_full_layers() -> None:
    """What tower 1 computes up to pool 2 does not change when tower 2's kernels do."""
    torch.manual_seed(4)
    model = AlexNet(AlexNetConfig(width=0.25, classes=5)).eval()
    image = 70 * torch.randn(1, 3, 224, 224)
    outputs: list[Tensor] = []
    model.conv3.register_forward_pre_hook(lambda _, inputs: outputs.append(inputs[0].clone()))
    with torch.no_grad():
        model(image)
        model.conv1.weight[model.conv1.out_channels // 2 :] += 1
        model(image)
    half = outputs[0].shape[1] // 2
    torch.testing.assert_close(outputs[0][:, :half], outputs[1][:, :half], rtol=0, atol=0)
    assert not torch.equal(outputs[0][:, half:], outputs[1][:, half:])


def test_dropout_masks_in_training_and_halves_at_test() -> None:
    torch.manual_seed(5)
    dropout, x = Dropout2012(0.5), torch.full((100, 1000), 3.0)
    masked = dropout.train()(x)
    assert set(masked.unique().tolist()) == {0.0, 3.0}
    assert (masked == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)
    assert (dropout.eval()(x) == 1.5).all()


def test_dropout_acts_on_the_outputs_of_fc6_and_fc7() -> None:
    torch.manual_seed(6)
    model = AlexNet(AlexNetConfig(width=0.1, crop=64, classes=5)).train()
    zeros = {}
    for name in ("fc6", "fc7", "fc8"):
        getattr(model, name).register_forward_pre_hook(
            lambda _, inputs, name=name: zeros.update({name: (inputs[0] == 0).float().mean()})
        )
    model.fc6.bias.data.fill_(1e4)  # far from the corner of the ReLU: a zero is a mask's
    model.fc7.bias.data.fill_(1e6)
    model(torch.randn(16, 3, 64, 64))
    assert zeros["fc6"] < 0.9
    assert 0.4 < zeros["fc7"] < 0.6
    assert 0.4 < zeros["fc8"] < 0.6
