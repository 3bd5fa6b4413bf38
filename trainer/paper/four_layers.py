"""The four-layer network of Figure 1, of which the paper says no more than that.

This is the smallest that the released code has for CIFAR-10 and that counts as four layers: three
convolutions and a full layer (layers-cifar/layers-19pct.cfg).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Literal["relu", "tanh"]


class FourLayers(nn.Module):
    """RGB minus its mean on the 0..255 scale, (N, 3, 32, 32) -> logits (N, 10)."""

    def __init__(self, activation: Activation, seed: int) -> None:
        """Draw zero-mean Gaussian weights from a generator of that seed; biases are 0."""
        super().__init__()
        self.activation = torch.relu if activation == "relu" else torch.tanh
        self.conv1 = nn.Conv2d(3, 32, 5, padding=2)
        self.conv2 = nn.Conv2d(32, 32, 5, padding=2)
        self.conv3 = nn.Conv2d(32, 64, 5, padding=2)
        self.fc4 = nn.Linear(64 * 4 * 4, 10)
        random = torch.Generator().manual_seed(seed)
        deviations = ((self.conv1, 1e-4), (self.conv2, 0.01), (self.conv3, 0.01), (self.fc4, 0.01))
        with torch.no_grad():
            for layer, deviation in deviations:
                layer.weight.normal_(0, deviation, generator=random)
                assert layer.bias is not None
                layer.bias.zero_()

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """(N, 3, 32, 32) float -> (N, 10) logits. Windows may stick out at the right and bottom."""
        x = self.activation(F.max_pool2d(self.conv1(image_NCHW), 3, 2, ceil_mode=True))
        x = F.avg_pool2d(self.activation(self.conv2(x)), 3, 2, ceil_mode=True)
        x = F.avg_pool2d(self.activation(self.conv3(x)), 3, 2, ceil_mode=True)
        return self.fc4(x.flatten(1))
