"""The update rule of 2012 (§5; src/weights.cu of the released code).

v <- 0.9 v - 0.0005 rate w - rate gradient;  w <- w + v

The rate is inside the velocity, so that after a drop the network coasts on its old speed. Biases
learn at twice the rate and do not decay, as in the released configurations.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

BIAS_RATE = 2.0
"""Factor on the rate of all biases."""


class SGD2012(torch.optim.SGD):
    """torch's own kernels; equal to the rule above because `set_rate` rescales the velocity.

    torch keeps v / -rate and multiplies by the rate on use: the same while the rate is constant.
    """

    def __init__(
        self, model: nn.Module, rate: float, momentum: float = 0.9, weight_decay: float = 0.0005
    ) -> None:
        self._named = dict(model.named_parameters())
        weights = [p for name, p in self._named.items() if not name.endswith("bias")]
        biases = [p for name, p in self._named.items() if name.endswith("bias")]
        super().__init__(
            [
                {"params": weights, "lr": rate, "weight_decay": weight_decay},
                {"params": biases, "lr": BIAS_RATE * rate, "weight_decay": 0.0},
            ],
            momentum=momentum,
            fused=True,
        )

    @property
    def rate(self) -> float:
        """Of the weights, as last set."""
        return self.param_groups[0]["lr"]

    @torch.no_grad()
    def set_rate(self, rate: float) -> None:
        """`rate` of the weights, above zero, from the next step on."""
        for group, new in zip(self.param_groups, (rate, BIAS_RATE * rate), strict=True):
            if new == group["lr"]:
                continue
            for parameter in group["params"]:
                if (velocity := self.state[parameter].get("momentum_buffer")) is not None:
                    velocity.mul_(group["lr"] / new)
            group["lr"] = new

    def velocity(self) -> dict[str, Tensor]:
        """By parameter name, as torch keeps it: it means something at today's `rate` only.

        The tensors are the optimizer's own; there is none before the first step.
        """
        return {
            name: self.state[parameter]["momentum_buffer"]
            for name, parameter in self._named.items()
            if self.state.get(parameter)
        }

    @torch.no_grad()
    def set_velocity(self, named: Mapping[str, Tensor]) -> None:
        """Copy what `velocity` gave, from any device, once `set_rate` has set its rate.

        KeyError where the velocity of some parameter lacks, but not of all.
        """
        self.state.clear()
        for name, parameter in self._named.items() if named else ():
            # torch's fused kernels take weight and velocity to lie in memory alike.
            velocity = torch.empty_like(parameter).copy_(named[name])
            self.state[parameter]["momentum_buffer"] = velocity
