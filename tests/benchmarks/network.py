"""AlexNet of torch's own layers, as others would write it.

Shapes: N images, C channels, H rows, W columns, T towers, M = C/T maps.
"""

import torch
from torch import Tensor, nn

from alexnet.model import AlexNet


class TowerNorm(nn.LocalResponseNorm):
    """torch's own; a window ends where its tower's maps end (§3.3).

    It sees the towers as images of their own: a view, if the memory is NCHW.
    """

    def __init__(self, towers: int) -> None:
        super().__init__(5, alpha=1e-4, beta=0.75, k=2.0)
        self.towers = towers

    def forward(self, x_NCHW: Tensor) -> Tensor:
        maps, *sides = x_NCHW.shape[1:]
        x_TMHW = x_NCHW.reshape(-1, maps // self.towers, *sides)
        return super().forward(x_TMHW).reshape(x_NCHW.shape)


def plain(model: AlexNet) -> nn.Sequential:
    """The network in the paper's form, with the numbers of `model`; it shares no memory.

    `nn.Dropout` scales up in training what ours scales down at test: so much smaller are the
    weights behind it.
    """
    config = model.config
    missing, kept = -(config.crop - 11) % 4, 1 - config.dropout

    def relu() -> nn.Module:
        return nn.ReLU(inplace=True)

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)

    def dropout() -> nn.Module:
        return nn.Dropout(config.dropout)

    convolutions = [conv for conv in (model.conv3, model.conv4, model.conv5) if conv is not None]
    middle = [layer for conv in convolutions for layer in (_convolution(conv), relu())]
    return nn.Sequential(
        nn.ZeroPad2d((0, missing, 0, missing)),
        _convolution(model.conv1), relu(), TowerNorm(config.towers), pool(),
        _convolution(model.conv2), relu(), TowerNorm(config.towers), pool(),
        *middle, pool(),
        nn.Flatten(),
        _linear(model.fc6, 1), relu(), dropout(),
        _linear(model.fc7, kept), relu(), dropout(),
        _linear(model.fc8, kept),
    ).train(model.training)  # fmt: skip


def _convolution(layer: nn.Conv2d) -> nn.Conv2d:
    plain = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,  # type: ignore[arg-type]
        layer.padding, groups=layer.groups,  # type: ignore[arg-type]
    )  # fmt: skip
    plain.load_state_dict(layer.state_dict())
    return plain


@torch.no_grad()
def _linear(layer: nn.Linear, scale: float) -> nn.Linear:
    plain = nn.Linear(layer.in_features, layer.out_features)
    plain.load_state_dict(layer.state_dict())
    plain.weight.mul_(scale)
    return plain
