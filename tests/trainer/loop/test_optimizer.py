"""The update rule of 2012, written out in float64, against torch's kernels."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from alexnet.config import AlexNetConfig
from alexnet.dropout import Draw, Dropout2012
from alexnet.model import AlexNet
from trainer.loop.optimizer import SGD2012
from trainer.publishing.imports import FOLDED


def test_equals_the_released_rule_over_learning_rate_drops() -> None:
    """inc = 0.9 inc - wc r w - r gradient; w += inc (src/weights.cu), biases at twice the learning
    rate r of the weights and without decay. It drops twice on the way."""
    torch.manual_seed(0)
    layer = nn.Linear(7, 5).double()
    data, target = torch.randn(20, 7).double(), torch.randn(20, 5).double()
    optimizer = SGD2012(layer, 0.01)
    value = {name: p.detach().clone() for name, p in layer.named_parameters()}
    increment = {name: torch.zeros_like(v) for name, v in value.items()}
    for step in range(60):
        learning_rate = 0.01 / 10 ** (step // 20)
        optimizer.set_learning_rates(learning_rate, 2 * learning_rate)
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(data), target).backward()
        gradient = {name: p.grad.clone() for name, p in layer.named_parameters()}
        optimizer.step()
        for name in value:
            own = 2 * learning_rate if name == "bias" else learning_rate
            decay = 0.0 if name == "bias" else 0.0005
            increment[name] = (
                0.9 * increment[name] - decay * own * value[name] - own * gradient[name]
            )
            value[name] = value[name] + increment[name]
        for name, parameter in layer.named_parameters():
            assert (parameter - value[name]).abs().max() < 1e-12, (step, name)


def test_without_the_rescaling_a_drop_would_show() -> None:
    """torch's own rule shrinks the carried step at once: what `set_learning_rates` is for."""
    weights = []
    for rescale in (True, False):
        layer = nn.Linear(1, 1, bias=False).double()
        nn.init.ones_(layer.weight)
        optimizer = SGD2012(layer, 0.01)
        for step in range(4):
            if rescale:
                optimizer.set_learning_rates(*((0.01, 0.02) if step < 2 else (0.001, 0.002)))
            elif step == 2:
                optimizer.param_groups[0]["lr"] = 0.001
            layer.weight.grad = torch.ones(1, 1).double()
            optimizer.step()
        weights.append(layer.weight.item())
    assert abs(weights[0] - weights[1]) > 0.01


def test_every_bias_and_only_biases_learn_twice_as_fast() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Linear(4, 2))
    weights, biases = SGD2012(model, 0.01).param_groups
    assert (weights["lr"], weights["weight_decay"]) == (0.01, 0.0005)
    assert (biases["lr"], biases["weight_decay"]) == (0.02, 0.0)
    assert [p.ndim for p in biases["params"]] == [1, 1]
    assert [p.ndim for p in weights["params"]] == [4, 2]


def test_a_layer_has_a_factor_of_the_learning_rates() -> None:
    """One with a tenth does what another does at a tenth of the learning rates, over drops."""
    torch.manual_seed(0)
    weights = {}
    for rate, rates in ((0.01, {"0": 0.1}), (0.001, {})):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).double()
        optimizer = SGD2012(model, rate, layer_rates=rates)
        for step in range(6):
            now = rate if step < 3 else rate / 4
            optimizer.set_learning_rates(now, 2 * now)
            assert optimizer.learning_rates == (now, 2 * now)
            optimizer.zero_grad()
            for parameter in model[0].parameters():
                parameter.grad = torch.full_like(parameter, step + 1)
            optimizer.step()
        weights[rate] = [p.detach() for p in model.parameters()]
    for ours, theirs in zip(*weights.values(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


class Unfolded(AlexNet):
    """torchvision's arithmetic: pixels of deviation one, and dropout that scales up in training."""

    def __init__(self, config: AlexNetConfig) -> None:
        super().__init__(config)
        self.dropout = Inverted(config.dropout)


class Inverted(Dropout2012):
    def forward(self, x_NH: Tensor, mask_NH: Tensor | None = None) -> Tensor:
        return super().forward(x_NH, mask_NH) / (1 - self.p if self.training else 1)


def test_a_folded_network_makes_the_steps_of_the_unfolded_one() -> None:
    """With decay, momentum and a drop of the learning rate; without the factors conv1 moves three
    thousand times as far."""
    torch.manual_seed(0)
    config = AlexNetConfig(classes=3, width=0.05, crop=64, towers=1, local_response_norm=False)
    folds = FOLDED["torchvision"] | {"fc8": FOLDED["torchvision"]["fc7"]}
    unfolded, folded = Unfolded(config).double(), AlexNet(config).double()
    with torch.no_grad():
        unfolded.conv1.weight.mul_(50)  # for pixels that are smaller
    factors = {name: torch.ones(()).double() for name in unfolded.state_dict()}
    for layer, values in folds.items():
        sides = unfolded.get_parameter(f"{layer}.weight").ndim - 1
        factor_C = torch.tensor(values, dtype=torch.float64)
        factors[f"{layer}.weight"] = factor_C.view(-1, *[1] * (sides - 1))
    folded.load_state_dict({n: t * factors[n] for n, t in unfolded.state_dict().items()})
    alone = deepcopy(folded)
    image_NCHW = 60 * torch.randn(4, 3, 64, 64).double()
    label_N = torch.tensor([0, 1, 2, 0])
    runs = (
        (unfolded, SGD2012(unfolded, 0.01), image_NCHW * factors["conv1.weight"]),
        (folded, SGD2012(folded, 0.01, folded=folds), image_NCHW),
    )
    start = {n: t.clone() for n, t in folded.state_dict().items()}
    for step in range(3):
        for model, optimizer, image in runs:
            rate = 0.01 if step < 2 else 0.001
            optimizer.set_learning_rates(rate, 2 * rate)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(image, Draw(step, 0)), label_N).backward()
            optimizer.step()
        for name, tensor in unfolded.state_dict().items():
            found, expected = folded.state_dict()[name], tensor * factors[name]
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12, msg=name)
    optimizer = SGD2012(alone, 0.01)
    nn.functional.cross_entropy(alone(image_NCHW, Draw(0, 0)), label_N).backward()
    optimizer.step()
    far = (alone.conv1.weight - start["conv1.weight"]).norm()
    assert far > 500 * (folded.conv1.weight - start["conv1.weight"]).norm()


def test_velocity_goes_on_bit_for_bit() -> None:
    """Ten steps at once, or five, a new optimizer with the velocity of the first, and five."""

    def steps(layer: nn.Linear, optimizer: SGD2012, numbers: range) -> None:
        for step in numbers:
            learning_rate = 0.01 if step < 4 else 0.003
            optimizer.set_learning_rates(learning_rate, 2 * learning_rate)
            optimizer.zero_grad()
            layer(torch.full((1, 7), float(step))).square().sum().backward()
            optimizer.step()

    whole, parted = nn.Linear(7, 5), nn.Linear(7, 5)
    parted.load_state_dict(whole.state_dict())
    rates, folded = {"": 0.3}, {"": (0.5,)}
    steps(whole, SGD2012(whole, 0.01, layer_rates=rates, folded=folded), range(10))
    first = SGD2012(parted, 0.01, layer_rates=rates, folded=folded)
    assert first.velocity() == {}
    steps(parted, first, range(5))
    assert list(first.velocity()) == ["weight", "bias"]
    second = SGD2012(parted, 0.01, layer_rates=rates, folded=folded)
    second.set_velocity({n: v.clone() for n, v in first.velocity().items()}, first.learning_rates)
    steps(parted, second, range(5, 10))
    assert torch.equal(parted.weight, whole.weight)
    assert torch.equal(parted.bias, whole.bias)


def test_a_layer_without_gradient_rests() -> None:
    """A learning rate of zero skips the update, velocity and decay too (src/weights.cu)."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = SGD2012(model, 0.01)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()

    step()
    model[0].requires_grad_(False)
    weights = [p.detach().clone() for p in model.parameters()]
    velocity = {name: v.clone() for name, v in optimizer.velocity().items()}
    step()
    for name, before, after in zip(velocity, weights, model.parameters(), strict=True):
        assert torch.equal(before, after) == name.startswith("0."), name
        moved = not torch.equal(velocity[name], optimizer.velocity()[name])
        assert moved == name.startswith("1."), name
