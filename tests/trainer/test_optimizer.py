"""The update rule of 2012, written out in float64, against torch's kernels."""

import copy

import torch
from torch import nn

from trainer.optimizer import SGD2012


def test_equals_the_released_rule_over_rate_drops() -> None:
    """inc = 0.9 inc - wc rate w - rate gradient; w += inc (src/weights.cu), biases at twice the
    rate and without decay. The rate drops twice on the way."""
    torch.manual_seed(0)
    layer = nn.Linear(7, 5).double()
    data, target = torch.randn(20, 7).double(), torch.randn(20, 5).double()
    optimizer = SGD2012(layer, 0.01)
    value = {name: p.detach().clone() for name, p in layer.named_parameters()}
    increment = {name: torch.zeros_like(v) for name, v in value.items()}
    for step in range(60):
        rate = 0.01 / 10 ** (step // 20)
        optimizer.set_rate(rate)
        optimizer.zero_grad()
        nn.functional.mse_loss(layer(data), target).backward()
        gradient = {name: p.grad.clone() for name, p in layer.named_parameters()}
        optimizer.step()
        for name in value:
            own = 2 * rate if name == "bias" else rate
            decay = 0.0 if name == "bias" else 0.0005
            increment[name] = (
                0.9 * increment[name] - decay * own * value[name] - own * gradient[name]
            )
            value[name] = value[name] + increment[name]
        for name, parameter in layer.named_parameters():
            assert (parameter - value[name]).abs().max() < 1e-12, (step, name)


def test_without_the_rescaling_a_drop_would_show() -> None:
    """torch's own rule shrinks the carried step at once: what `set_rate` is for."""
    weights = []
    for rescale in (True, False):
        layer = nn.Linear(1, 1, bias=False).double()
        nn.init.ones_(layer.weight)
        optimizer = SGD2012(layer, 0.01)
        for step in range(4):
            if rescale:
                optimizer.set_rate(0.01 if step < 2 else 0.001)
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


def test_a_velocity_given_back_goes_on_with_the_same_bits() -> None:
    """Into another optimizer, over a drop of the rate, whatever the memory format."""
    torch.manual_seed(0)
    image = torch.randn(6, 3, 8, 8)

    def learn(layer: nn.Module, optimizer: SGD2012, rates: list[float]) -> None:
        for rate in rates:
            optimizer.set_rate(rate)
            optimizer.zero_grad()
            layer(image).square().mean().backward()
            optimizer.step()

    layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = SGD2012(layer, 0.1)
    assert optimizer.velocity() == {}
    learn(layer, optimizer, [0.1, 0.1, 0.05])

    other = copy.deepcopy(layer)
    restored = SGD2012(other, 0.1)
    restored.set_rate(optimizer.rate)
    restored.set_velocity({name: v.contiguous() for name, v in optimizer.velocity().items()})
    for one, its in ((layer, optimizer), (other, restored)):
        learn(one, its, [0.05, 0.01, 0.01])
    assert all(
        torch.equal(*pair) for pair in zip(layer.parameters(), other.parameters(), strict=True)
    )
    assert optimizer.velocity().keys() == {"weight", "bias"}
    for name, velocity in optimizer.velocity().items():
        assert torch.equal(velocity, restored.velocity()[name])
    restored.set_velocity({})
    assert restored.velocity() == {}
