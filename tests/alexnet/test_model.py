"""The network against the paper's numbers and against slow references written out."""

from itertools import product

import pytest
import torch
from torch import Tensor, nn

from alexnet.checkpoint import parameters
from alexnet.config import Ablation
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


def test_only_an_ablation_is_written_down() -> None:
    """A network without one is described as it always was, to the byte."""
    ordinary = AlexNetConfig(classes=7, width=0.5)
    assert "ablation" not in ordinary.model_dump()
    assert "ablation" not in ordinary.model_dump_json()
    assert AlexNetConfig(classes=7, width=0.5, ablation=Ablation()) == ordinary
    assert AlexNetConfig.model_validate_json(ordinary.model_dump_json()) == ordinary
    ablated = AlexNetConfig(ablation=Ablation(removed="conv4", links=False))
    assert AlexNetConfig.model_validate_json(ablated.model_dump_json()) == ablated


@pytest.mark.parametrize(
    ("ablation", "difference"),
    [
        ({"removed": "conv3"}, -885_120 - 9 * 64 * 384),  # and conv4 sees 128 maps, not 192
        ({"removed": "conv4"}, -663_936),
        ({"removed": "conv5"}, -442_624 + 36 * 128 * 4096),  # and fc6 sees 384 maps, not 256
        ({"links": False}, -9 * 128 * 384 - 36 * 128 * 4096 - 2048 * 4096),
        ({"deviation": 0.01, "inverted_dropout": True}, 0),
    ],
)
def test_parameters_of_an_ablated_network(ablation: dict, difference: int) -> None:
    assert parameters(AlexNetConfig(ablation=Ablation(**ablation))) == 60_965_224 + difference


class Scaled(nn.Module):
    """2012's dropout at test."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * x


def by_hand(model: AlexNet, tower: int | None = None) -> nn.Sequential:
    """Up to fc7, of torch's own layers; or `tower` of two that see nothing of each other."""
    config, plain = model.config, model.config.pooling == "plain"
    window, act = 2 if plain else 3, nn.ReLU if config.activation == "relu" else nn.Tanh

    def mine(whole: Tensor) -> Tensor:
        return whole if tower is None else whole.chunk(2)[tower]

    def convolution(name: str, padding: int = 1, stride: int = 1) -> list[nn.Module]:
        weight, bias = (mine(part) for part in getattr(model, name).parameters())
        groups = config.towers if tower is None and name in ("conv2", "conv4", "conv5") else 1
        layer = nn.Conv2d(
            weight.shape[1] * groups, len(weight), weight.shape[-1], stride, padding, groups=groups
        )
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        return [layer, act()]

    def full(name: str) -> list[nn.Module]:
        weight, bias = (mine(part) for part in getattr(model, name).parameters())
        layer = nn.Linear(weight.shape[1], len(weight))
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        return [layer, act(), Scaled(1 - config.dropout)]

    pool = [nn.MaxPool2d(window, 2, ceil_mode=True)]
    missing, middle = -(config.crop - 11) % 4, []
    for name in ("conv3", "conv4", "conv5"):
        if name != config.ablation.removed:
            middle += convolution(name, 0 if plain and name == "conv5" else 1)
    return nn.Sequential(
        nn.ZeroPad2d((0, missing, 0, missing)), *convolution("conv1", 0, 4), *pool,
        *convolution("conv2", 1 if plain else 2), *pool, *middle, *pool,
        *(convolution("conv6") if config.sixth_conv else ()), nn.Flatten(),
        *full("fc6"), *full("fc7"),
    )  # fmt: skip


ORDINARY = [
    {"towers": towers, "pooling": pooling, "activation": activation, "sixth_conv": sixth}
    for towers, pooling, activation, sixth in product(
        (1, 2), ("overlapping", "plain"), ("relu", "tanh"), (False, True)
    )
]


def small(options: dict, ablation: Ablation) -> tuple[AlexNet, Tensor]:
    """A network without normalisation whose units differ from each other, and images for it."""
    torch.manual_seed(7)
    config = AlexNetConfig(
        width=0.1, crop=96, classes=5, local_response_norm=False, ablation=ablation, **options
    )
    model = AlexNet(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("weight"):
            nn.init.kaiming_normal_(parameter)
    return model, torch.randn(2, 3, 96, 96)


@pytest.mark.parametrize("removed", [None, "conv3", "conv4", "conv5"])
@pytest.mark.parametrize(
    "options", ORDINARY, ids=lambda options: "-".join(map(str, options.values()))
)
@torch.no_grad()
def test_without_a_layer_it_is_what_torch_makes_of_the_others(
    options: dict, removed: str | None
) -> None:
    model, image = small(options, Ablation(removed=removed))
    torch.testing.assert_close(model.features(image), by_hand(model)(image))


@pytest.mark.parametrize("removed", [None, "conv3", "conv4", "conv5"])
@pytest.mark.parametrize("options", [o for o in ORDINARY if o["towers"] == 2])
@torch.no_grad()
def test_without_links_the_towers_are_two_networks_until_fc8(
    options: dict, removed: str | None
) -> None:
    model, image = small(options, Ablation(removed=removed, links=False))
    before = model.features(image)
    halves = [by_hand(model, tower)(image) for tower in range(2)]
    torch.testing.assert_close(before, torch.cat(halves, dim=1))
    logits = model(image)
    for parameter in model.parameters():  # of the second tower, and of fc8
        parameter[len(parameter) // 2 :] += 0.01
    after = model.features(image)
    half = before.shape[1] // 2
    assert torch.equal(before[:, :half], after[:, :half])
    assert not torch.isclose(before[:, half:], after[:, half:]).all(dim=1).any()
    assert not torch.equal(logits, model(image))


def test_links_join_two_towers() -> None:
    for options in ({"towers": 1}, {"norm_across_towers": True}):
        with pytest.raises(ValueError, match=r"ablation.links is false, which parts the two"):
            AlexNetConfig(ablation=Ablation(links=False), **options)


@pytest.mark.parametrize("width", [1.0, 0.5])
@pytest.mark.parametrize("deviation", [0.03, 0.01])
def test_the_middle_layers_start_with_the_deviation_that_is_asked_for(
    deviation: float, width: float
) -> None:
    """conv1, and all the rest at another width, as they do without it."""
    models = []
    for each in (0.03, deviation):
        torch.manual_seed(9)
        config = AlexNetConfig(
            width=width, crop=64, classes=5, sixth_conv=True, ablation=Ablation(deviation=each)
        )
        models.append(AlexNet(config).state_dict())
    middle = {f"conv{n}.weight" for n in (3, 4, 5, 6)}
    for name, tensor in models[1].items():
        factor = deviation / 0.03 if name in middle else 1
        torch.testing.assert_close(tensor, factor * models[0][name])
        if name in middle:
            expected = deviation / width**0.5
            assert tensor.std().item() == pytest.approx(expected, rel=0.02), name


@pytest.mark.parametrize("p", [0.0, 0.3, 0.5])
def test_inverted_dropout_is_torchs(p: float) -> None:
    """Of the same masks; and at test it does nothing."""
    torch.manual_seed(10)
    config = AlexNetConfig(
        width=0.1, crop=64, classes=5, dropout=p, ablation=Ablation(inverted_dropout=True)
    )
    model, image = AlexNet(config), 70 * torch.randn(8, 3, 64, 64)
    seen: list[Tensor] = []
    model.fc6.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for training in (True, False):
        torch.manual_seed(11)
        found = model.train(training)(image)
        torch.manual_seed(11)
        theirs = nn.Dropout(p).train(training)
        six = theirs(torch.relu(model.fc6(seen[-1])))
        seven = theirs(torch.relu(model.fc7(six)))
        torch.testing.assert_close(found, model.fc8(seven))
