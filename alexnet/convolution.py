"""Convolutions of stride 1 with a half to a fifth of the multiplications, on processors in float32.

NNPACK, a part of torch, multiplies transforms of tiles (Winograd's for 3 x 3 kernels, Fourier's for
others) where the direct method multiplies pixels. It rounds otherwise: mean errors measured on
outputs of size one were 0.7 times the direct method's for 5 x 5 kernels, 1.5 times for 3 x 3, and,
where Winograd's tiles fit, as on maps of 8 x 8, 17 times, which is 2e-6.

Shapes: N images, M images made of them, C channels, H rows, W columns, K kernels; in _Transformed
of one group each.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST_CHANNELS, FEWEST_POSITIONS = 48, 4096
"""The fewest input channels of a group, and positions in the maps of all images, that are worth
transforming: with fewer the transforms cost more than they save."""
TILE = 16
"""Rows and columns of NNPACK's largest transform."""


class Convolution(nn.Conv2d):
    """`nn.Conv2d` of stride 1 with square kernels and a bias."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, K, H', W')."""
        if not self._pays(x_NCHW):
            return super().forward(x_NCHW)
        return _Transformed.apply(x_NCHW, self.weight, self.bias, int(self.padding[0]), self.groups)

    def _pays(self, x_NCHW: Tensor) -> bool:
        if torch.compiler.is_compiling():  # or exporting, for programs without NNPACK
            return False
        channels = min(self.in_channels, self.out_channels) // self.groups
        positions = len(x_NCHW) * x_NCHW.shape[-2] * x_NCHW.shape[-1]
        return (
            x_NCHW.device.type == "cpu"
            and x_NCHW.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and channels >= FEWEST_CHANNELS
            and positions >= FEWEST_POSITIONS
            and nnpack_available()
        )


def nnpack_available() -> bool:
    """Whether this torch has NNPACK, for this processor, under the private names that it has had
    so far; without it, torch's own convolution is used."""
    set_up = getattr(torch, "_nnpack_available", None)
    return hasattr(torch, "_nnpack_spatial_convolution") and bool(set_up and set_up())


class _Transformed(torch.autograd.Function):
    """All three passes of a convolution are convolutions; the groups are convolved one by one."""

    @staticmethod
    def forward(
        ctx: Any, x_NCHW: Tensor, weight: Tensor, bias: Tensor, padding: int, groups: int
    ) -> Tensor:
        ctx.padding = padding
        x_gNCHW = [x.contiguous() for x in x_NCHW.chunk(groups, 1)]
        ctx.save_for_backward(weight, *x_gNCHW)
        parts = zip(x_gNCHW, weight.chunk(groups), bias.chunk(groups), strict=True)
        return torch.cat([_convolve(x, w, b, padding) for x, w, b in parts], dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor, Tensor, None, None]:
        weight, *x_gNCHW = ctx.saved_tensors
        padding, side, groups = ctx.padding, weight.shape[-1], len(x_gNCHW)
        gradient_gNKHW = [g.contiguous() for g in gradients[0].chunk(groups, 1)]
        into_x = None
        if ctx.needs_input_grad[0]:
            parts = zip(gradient_gNKHW, weight.chunk(groups), strict=True)
            turned = ((g, w.flip(2, 3).transpose(0, 1)) for g, w in parts)
            into_x = torch.cat([_convolve(g, w, None, side - 1 - padding) for g, w in turned], 1)
        into_weight = torch.cat(
            [
                _weight_gradient(x, g, side, padding)
                for x, g in zip(x_gNCHW, gradient_gNKHW, strict=True)
            ]
        )
        into_bias = torch.cat([g.sum((0, 2, 3)) for g in gradient_gNKHW])
        return into_x, into_weight, into_bias, None, None


def _convolve(x_NCHW: Tensor, weight_KCHW: Tensor, bias_K: Tensor | None, padding: int) -> Tensor:
    """(N, K, H', W') at stride 1; all are contiguous, and maps and kernels are square.

    Four images are laid out as one, two by two with their padding between them, where that takes
    fewer tiles: a map of 27 takes nine, four of them 25.
    """
    images, channels, side, _ = x_NCHW.shape
    kernels, _, window, _ = weight_KCHW.shape
    result_side, step = side + 2 * padding - window + 1, side + padding
    tile = TILE + 1 - window
    if -(-(step + result_side) // tile) >= 2 * -(-result_side // tile):
        return _nnpack(x_NCHW, weight_KCHW, bias_K, padding)
    four_MCHW = x_NCHW.new_zeros(-(-images // 4), channels, step + side, step + side)
    corners = [(y, x) for y in (0, step) for x in (0, step)]
    for first, (y, x) in enumerate(corners):
        part = x_NCHW[first::4]
        four_MCHW[: len(part), :, y : y + side, x : x + side] = part
    four_MKHW = _nnpack(four_MCHW, weight_KCHW, bias_K, padding)
    result_NKHW = x_NCHW.new_empty(images, kernels, result_side, result_side)
    for first, (y, x) in enumerate(corners):
        part = result_NKHW[first::4]
        part.copy_(four_MKHW[: len(part), :, y : y + result_side, x : x + result_side])
    return result_NKHW


def _nnpack(x_NCHW: Tensor, weight_KCHW: Tensor, bias_K: Tensor | None, padding: int) -> Tensor:
    return torch._nnpack_spatial_convolution(x_NCHW, weight_KCHW, bias_K, (padding, padding))


def _weight_gradient(x_NCHW: Tensor, gradient_NKHW: Tensor, side: int, padding: int) -> Tensor:
    """(K, C, side, side): the input convolved with the gradient, summed over the images.

    As a kernel the gradient is larger than a tile: it is cut into blocks, each on its own window
    of the input, and they are summed like the images.
    """
    height = gradient_NKHW.shape[-1]
    blocks = -(-height // (TILE + 1 - side))
    block = -(-height // blocks)
    missing, window = blocks * block - height, block + side - 1
    rest = padding + missing
    gradient_NKHW = F.pad(gradient_NKHW, (0, missing, 0, missing))
    x_NCHW = F.pad(x_NCHW, (padding, rest, padding, rest))
    gradient_KMHW, x_CMHW = (
        t.unfold(2, size, block).unfold(3, size, block).transpose(0, 1).flatten(1, 3)
        for t, size in ((gradient_NKHW, block), (x_NCHW, window))
    )
    return _convolve(x_CMHW, gradient_KMHW, None, 0).transpose(0, 1)
