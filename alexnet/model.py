"""The network of Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep
Convolutional Neural Networks", NIPS 2012; numbers of config 145 of the released code.

Shapes: N images, C channels, H rows, W columns, T towers, K classes.
"""

from math import ceil, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet.config import AlexNetConfig
from alexnet.convolution import Convolution
from alexnet.dropout import Draw, Dropout2012, InvertedDropout
from alexnet.norm import LocalResponseNorm, norm_over_positions


class AlexNet(nn.Module):
    """RGB minus its mean on the 0..255 scale, (N, 3, crop, crop) -> logits (N, classes)."""

    def __init__(self, config: AlexNetConfig) -> None:
        super().__init__()
        self.config = config
        towers, plain = config.towers, config.pooling == "plain"

        # §3.2: the one-GPU network halves each layer but conv5 and the full ones.
        paper = (96, 256, 384, 384, 256) if towers == 2 else (48, 128, 192, 192, 256)
        c1, c2, c3, c4, c5 = (_units(full, config) for full in config.kernels or paper)
        hidden = hidden_units(config)
        # Plain pooling leaves 28 and 11 positions where overlapping leaves 27 and 13; config 147
        # takes the difference out of the padding, so that the last map is 6x6 again.
        self.conv1 = nn.Conv2d(3, c1, 11, stride=4)
        self.conv2 = Convolution(c1, c2, 5, padding=1 if plain else 2, groups=towers)
        linked, seen = 1 if config.ablation.links else towers, c2

        def convolution(name: str, kernels: int, padding: int, groups: int) -> Convolution | None:
            nonlocal seen
            if name not in config.convolutions:
                return None
            layer, seen = Convolution(seen, kernels, 3, padding=padding, groups=groups), kernels
            return layer

        self.conv3 = convolution("conv3", c3, 1, linked)
        self.conv4 = convolution("conv4", c4, 1, towers)
        self.conv5 = convolution("conv5", c5, 0 if plain else 1, towers)
        self.conv6 = convolution("conv6", c5, 1, linked)
        # The last window may stick out at the right and bottom, as in the released code.
        self.pool = nn.MaxPool2d(2 if plain else 3, stride=2, ceil_mode=True)
        self.activation = nn.ReLU(inplace=True) if config.activation == "relu" else nn.Tanh()
        dropout = InvertedDropout if config.ablation.inverted_dropout else Dropout2012
        self.dropout = dropout(config.dropout)

        side = self._last_map_side(window=2 if plain else 3)
        self.fc6 = _full(seen * side * side, hidden, linked)
        self.fc7 = _full(hidden, hidden, linked)
        self.fc8 = nn.Linear(hidden, config.classes)
        self._initialise(side)

    def forward(self, image_NCHW: Tensor, draw: Draw | None = None) -> Tensor:
        """(N, 3, crop, crop) float -> (N, classes) logits. `draw` is for training alone; without it
        dropout draws from torch's own generator."""
        return self.fc8(self.features(image_NCHW, draw))

    def features(self, image_NCHW: Tensor, draw: Draw | None = None) -> Tensor:
        """(N, 3, crop, crop) float -> (N, H), the last hidden layer, 4096 units at full width.

        Images are alike where their Euclidean distance is small here (§6.1, Figure 4).
        """
        return self.features_from_conv1(self.conv1(self.pad(image_NCHW)), draw)

    def features_from_conv1(self, x_NCHW: Tensor, draw: Draw | None = None) -> Tensor:
        """`features` from conv1's maps on, (N, C, H', W') -> (N, H); the maps are overwritten."""
        if self.config.order == "released":
            x = self.activation(self._norm_and_pool(x_NCHW))
            x = self._norm_and_pool(self.activation(self.conv2(x)), over_positions=True)
        else:
            x = self._norm_and_pool(self.activation(x_NCHW))  # §3.1, §3.3, §3.4
            x = self._norm_and_pool(self.activation(self.conv2(x)))
        # conv3 sees both towers, as do the full layers (§3.2).
        for conv in (self.conv3, self.conv4, self.conv5):
            if conv is not None:
                x = self.activation(conv(x))
        x = self._pool(x)
        if self.conv6 is not None:
            x = self.activation(self.conv6(x))
        x = self.activation(self.fc6(x.flatten(1)))
        six_NH, seven_NH = self.dropout.masks(x, draw)
        x = self.dropout(x, six_NH)  # §4.2
        return self.dropout(self.activation(self.fc7(x)), seven_NH)

    def pad(self, image_NCHW: Tensor) -> Tensor:
        """Add zeros at the right and bottom until conv1's last window is full: 224 + 3 give 55x55.

        The released code has `padding=0` and rounds the number of windows up (layer.py). A padding
        of 2 on every side gives 55x55 as well, but shifts every window by two pixels.
        """
        before = self.config.conv1_padding
        missing = -(before + self.config.crop - 11) % 4
        return F.pad(image_NCHW, (before, missing, before, missing))

    def _norm_and_pool(self, x_NCHW: Tensor, over_positions: bool = False) -> Tensor:
        if self.config.norm_after_pool:
            return self._norm(self._pool(x_NCHW))
        x = self._norm(x_NCHW)
        if over_positions and self.config.local_response_norm:
            x = norm_over_positions(x)
        return self._pool(x)

    def _norm(self, x_NCHW: Tensor) -> Tensor:
        if not self.config.local_response_norm:
            return x_NCHW
        towers = 1 if self.config.norm_across_towers else self.config.towers
        return LocalResponseNorm.apply(x_NCHW, towers, self.config.norm_k)

    def _pool(self, x_NCHW: Tensor) -> Tensor:
        # Ten times as fast on a CPU; not every convolution leaves its maps in this order.
        return self.pool(x_NCHW.contiguous(memory_format=torch.channels_last))

    def _last_map_side(self, window: int) -> int:
        """Rows (and columns) of the map that fc6 sees: 6 at full size."""
        side = ceil((self.config.conv1_padding + self.config.crop - 11) / 4) + 1
        side = ceil((side - window) / 2) + 1
        for conv in (self.conv2, self.conv5):
            if conv is not None:
                side += 2 * int(conv.padding[0]) - conv.kernel_size[0] + 1
            side = ceil((side - window) / 2) + 1
        return side

    @torch.no_grad()
    def _initialise(self, side: int) -> None:
        """Draw zero-mean Gaussian weights and set constant biases (§5).

        At width 1, conv3 to conv6 have a standard deviation of 0.03, as in the released code: with
        the paper's 0.01 the signal almost vanishes on its way. Another width, or another size of
        the last map, changes the fan-in of every layer but conv1; the standard deviation is divided
        by the root of that change, which keeps the signal the same. What an ablation changes in it
        is left alone.
        """
        middle = self.config.ablation.deviation
        gain = {"conv1": 1.0, "fc6": 6 / side / sqrt(self.config.width)}
        for name, deviation, bias in (
            ("conv1", 0.01, 0.0), ("conv2", 0.01, 1.0), ("conv3", middle, 0.0),
            ("conv4", middle, 1.0), ("conv5", middle, 1.0), ("conv6", middle, 1.0),
            ("fc6", 0.01, 1.0), ("fc7", 0.01, 1.0), ("fc8", 0.01, 0.0),
        ):  # fmt: skip
            if (layer := getattr(self, name)) is not None:
                layer.weight.normal_(0, deviation * gain.get(name, 1 / sqrt(self.config.width)))
                layer.bias.fill_(bias)


class PartedLinear(nn.Linear):
    """A full layer in which each tower's units see the same tower's inputs alone."""

    def __init__(self, inputs: int, units: int, towers: int) -> None:
        """`inputs` and `units` are those of all towers; `in_features` is what one unit sees."""
        super().__init__(inputs // towers, units)
        self.towers = towers

    def forward(self, x_NH: Tensor) -> Tensor:
        """(N, inputs) -> (N, units), in both tower 0's before tower 1's."""
        parts = (part.chunk(self.towers) for part in (self.weight, self.bias))
        return torch.cat(list(map(F.linear, x_NH.chunk(self.towers, dim=1), *parts)), dim=1)


def _full(inputs: int, units: int, parts: int) -> nn.Linear:
    return nn.Linear(inputs, units) if parts == 1 else PartedLinear(inputs, units, parts)


def hidden_units(config: AlexNetConfig) -> int:
    """Units of the last hidden layer."""
    return _units(4096, config)


def _units(full: int, config: AlexNetConfig) -> int:
    """How many of `full` units this width keeps, the same number in each tower."""
    return config.towers * max(1, round(full / config.towers * config.width))
