"""The update rule of 2012 (§5; src/weights.cu of the released code).

v <- 0.9 v - 0.0005 r w - r gradient;  w <- w + v   with the learning rate r

The learning rate is inside the velocity, so that after a drop the network coasts on its old speed.
Biases learn at twice that of the weights and do not decay, as in the released configurations. There
each layer has an r of its own: here, that of all times the layer's factor.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

BIAS_FACTOR = 2.0
"""Factor on the learning rate of all biases."""


class SGD2012(torch.optim.SGD):
    """The rule above by torch's own kernels, because `set_learning_rates` rescales the velocity.

    torch keeps v / -r and multiplies by r on use, which is the same while r is constant.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0005,
        layer_rates: Mapping[Any, float] = {},
        folded: Mapping[Any, Sequence[float]] = {},
    ) -> None:
        """A layer of `layer_rates` learns at that factor of the learning rate, weights and biases;
        the others at 1.

        The weights of a layer of `folded` are others, w, times these factors s: one, or one for
        each input channel. Since the gradient of s w is that of w, divided by s, it is multiplied
        by s² before the rule: then s w makes the step that w would, times s, decay and velocity
        as well.
        """
        self._named = dict(model.named_parameters())
        self._learning_rates = learning_rate, BIAS_FACTOR * learning_rate
        groups: dict[float, tuple[list[Tensor], list[Tensor]]] = {1.0: ([], [])}
        self._scales = []
        for name, parameter in self._named.items():
            layer, _, part = name.rpartition(".")
            is_bias = part == "bias"
            pair = groups.setdefault(layer_rates.get(layer, 1.0), ([], []))
            pair[is_bias].append(parameter)
            if layer in folded and not is_bias:
                factor_C = parameter.new_tensor(folded[layer])
                shape = (1, -1) + (1,) * (parameter.ndim - 2)
                self._scales.append((parameter, factor_C.square().view(shape)))
        super().__init__(
            [
                {
                    "params": parameters,
                    "lr": factor * self._learning_rates[is_bias],
                    "weight_decay": 0.0 if is_bias else weight_decay,
                    "factor": factor,
                    "is_bias": is_bias,
                }
                for factor, pair in groups.items()
                for is_bias, parameters in enumerate(pair)
            ],
            momentum=momentum,
            fused=True,
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the parameters that have a gradient."""
        for parameter, scale in self._scales:
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
        return super().step(closure)

    @torch.no_grad()
    def set_learning_rates(self, weights: float, biases: float) -> None:
        """Set the learning rates of the weights and of the biases, above zero, from the next step
        on, of layers whose factor is 1."""
        self._learning_rates = weights, biases
        for group in self.param_groups:
            new = group["factor"] * self._learning_rates[group["is_bias"]]
            if new == group["lr"]:
                continue
            buffers = (self.state[p].get("momentum_buffer") for p in group["params"])
            if velocities := [buffer for buffer in buffers if buffer is not None]:
                torch._foreach_mul_(velocities, group["lr"] / new)
            group["lr"] = new

    @property
    def learning_rates(self) -> tuple[float, float]:
        """The learning rates of the weights and of the biases, of layers whose factor is 1."""
        return self._learning_rates

    def velocity(self) -> dict[str, Tensor]:
        """The velocity divided by minus the learning rate, by the parameter's name; empty before
        the first step."""
        buffers = {
            name: self.state[p].get("momentum_buffer")
            for name, p in self._named.items()
            if p in self.state
        }
        return {name: buffer for name, buffer in buffers.items() if buffer is not None}

    def set_velocity(
        self, velocity: dict[str, Tensor], learning_rates: tuple[float, float]
    ) -> None:
        """Go on from what `velocity` returned when the learning rates were these: bit for bit."""
        self._learning_rates = learning_rates
        for group in self.param_groups:
            group["lr"] = group["factor"] * learning_rates[group["is_bias"]]
        for name, tensor in velocity.items():
            parameter = self._named[name]
            buffer = torch.empty_like(parameter).copy_(tensor)
            self.state[parameter]["momentum_buffer"] = buffer
