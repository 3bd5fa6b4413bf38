"""Local response normalisation (§3.3), written so that it is not the bottleneck.

Shapes: N images, C channels, H rows, W columns.
"""

from typing import Any

import torch
from torch import Tensor

CACHED_BYTES = 2**21
"""What a processor passes over a dozen times is cut into parts of this size: they stay in cache."""


class LocalResponseNorm(torch.autograd.Function):
    """x / (k + 1e-4/5 * sum of x² over five neighbouring maps)^0.75, each tower alone (§3.3).

    The paper writes alpha undivided; the released code (layer.py) divides it by the size of the
    window, and the published results are the code's. The window sum is four shifted additions; the
    gradient holds the same sum and is written out, since autograd would keep every one of them.
    Shapes are (N, C, H, W), fastest in channels_last.
    """

    ALPHA, BETA = 1e-4 / 5, 0.75

    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, towers: int, k: float = 2.0) -> Tensor:
        x_NHWC = x_NCHW.permute(0, 2, 3, 1)
        base_NHWC, result_NHWC = torch.empty_like(x_NHWC), torch.empty_like(x_NHWC)
        with torch.autocast(x_NCHW.device.type, enabled=False):
            for x, base, result in _cached(x_NHWC, base_NHWC, result_NHWC):
                _window_sum(x * x, towers, base).mul_(LocalResponseNorm.ALPHA).add_(k)
                torch.mul(x, _factor(base), out=result)
        ctx.save_for_backward(x_NHWC, base_NHWC)
        ctx.towers = towers
        return result_NHWC.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x_NHWC, base_NHWC = ctx.saved_tensors
        gradient_NHWC = gradients[0].permute(0, 2, 3, 1)
        total_NHWC = torch.empty_like(x_NHWC)
        scale = -2 * LocalResponseNorm.ALPHA * LocalResponseNorm.BETA
        for x, base, gradient, total in _cached(x_NHWC, base_NHWC, gradient_NHWC, total_NHWC):
            factor = _factor(base)
            product = torch.mul(x, factor).div_(base).mul_(gradient)
            spread = _window_sum(product, ctx.towers, torch.empty_like(product))
            torch.mul(gradient, factor, out=total).addcmul_(spread, x, value=scale)
        return total_NHWC.permute(0, 3, 1, 2), None, None


def _window_sum(x_NHWC: Tensor, towers: int, out_NHWC: Tensor) -> Tensor:
    """Sum over channels c-2 .. c+2 of the same tower, into `out_NHWC`."""
    x, total = (part.unflatten(-1, (towers, -1)) for part in (x_NHWC, out_NHWC.copy_(x_NHWC)))
    for shift in (1, 2):
        total[..., shift:].add_(x[..., :-shift])
        total[..., :-shift].add_(x[..., shift:])
    return out_NHWC


def _factor(base: Tensor) -> Tensor:
    """base^-0.75 without a pow."""
    root = base.rsqrt()
    return root.sqrt().mul_(root)


def _cached(*tensors_NHWC: Tensor) -> zip:
    """The same tensors in parts of a few samples each; on a GPU, where launches cost, whole."""
    first = tensors_NHWC[0]
    sample_bytes = max(1, first[:1].nbytes)
    samples = max(1, len(first) if first.device.type != "cpu" else CACHED_BYTES // sample_bytes)
    return zip(*(tensor.split(samples) for tensor in tensors_NHWC), strict=True)
