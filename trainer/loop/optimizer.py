"""The update rule of 2012 (§5; src/weights.cu of the released code).

v <- 0.9 v - 0.0005 r w - r gradient;  w <- w + v   with the learning rate r

The learning rate is inside the velocity, so that after a drop the network coasts on its old speed.
Biases learn at twice that of the weights and do not decay, as in the released configurations.
"""

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
    ) -> None:
        self._named = dict(model.named_parameters())
        weights = [p for name, p in self._named.items() if not name.endswith("bias")]
        biases = [p for name, p in self._named.items() if name.endswith("bias")]
        super().__init__(
            [
                {"params": weights, "lr": learning_rate, "weight_decay": weight_decay},
                {"params": biases, "lr": BIAS_FACTOR * learning_rate, "weight_decay": 0.0},
            ],
            momentum=momentum,
            fused=True,
        )

    @torch.no_grad()
    def set_learning_rates(self, weights: float, biases: float) -> None:
        """Set the learning rates of the weights and of the biases, above zero, from the next step
        on."""
        for group, new in zip(self.param_groups, (weights, biases), strict=True):
            if new == group["lr"]:
                continue
            buffers = (self.state[p].get("momentum_buffer") for p in group["params"])
            if velocities := [buffer for buffer in buffers if buffer is not None]:
                torch._foreach_mul_(velocities, group["lr"] / new)
            group["lr"] = new

    @property
    def learning_rates(self) -> tuple[float, float]:
        """The learning rates of the weights and of the biases."""
        weights, biases = self.param_groups
        return weights["lr"], biases["lr"]

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
        for group, learning_rate in zip(self.param_groups, learning_rates, strict=True):
            group["lr"] = learning_rate
        for name, tensor in velocity.items():
            parameter = self._named[name]
            buffer = torch.empty_like(parameter).copy_(tensor)
            self.state[parameter]["momentum_buffer"] = buffer
