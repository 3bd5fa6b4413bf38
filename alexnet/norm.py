"""Local response normalisation (§3.3), written so that it is not the bottleneck.

Shapes: N images, C channels, H rows, W columns; P = N·H·W positions, T towers, M = C/T maps.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CACHED_BYTES = 2**20
"""What a processor passes over a dozen times is cut into parts of this size: they stay in cache."""
MOST_POOLED = 2**31 - 1
"""Values that one call of torch's pooling takes on a GPU."""


class LocalResponseNorm(torch.autograd.Function):
    """x / (k + 1e-4/5 * sum of x² over five neighbouring maps)^0.75, each tower alone (§3.3).

    The paper writes alpha undivided; the released code (layer.py) divides it by the size of the
    window, and the published results are the code's. The gradient holds the same sum and is written
    out, since autograd would keep every step of it. (N, C, H, W) -> (N, C, H, W) in channels_last,
    which it is fastest from as well. Computed in float32 at least: above 2, bfloat16 has steps of
    1/64, in which most bases would be 2.
    """

    ALPHA, BETA = 1e-4 / 5, 0.75

    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor, towers: int, k: float = 2.0) -> Tensor:
        x_PTM = _by_position(x_NCHW, towers)
        result_PTM = torch.empty_like(x_PTM)
        bases, k_ = [], torch.tensor(k)
        with torch.autocast(x_NCHW.device.type, enabled=False):
            sums = _MapSums(x_PTM)
            for x, result in sums.parts(x_PTM, result_PTM):
                base = torch.add(k_, sums.of(x, x), alpha=LocalResponseNorm.ALPHA)
                torch.mul(x, _factor(base), out=result)
                if ctx.needs_input_grad[0]:
                    bases.append(base)
        ctx.save_for_backward(x_PTM, *bases)
        return _as_images(result_PTM, x_NCHW)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x_PTM, *bases = ctx.saved_tensors
        gradient_PTM = _by_position(gradients[0], x_PTM.shape[1])
        total_PTM = torch.empty_like(x_PTM)
        scale = -2 * LocalResponseNorm.ALPHA * LocalResponseNorm.BETA
        sums = _MapSums(x_PTM)
        parts = sums.parts(x_PTM, gradient_PTM, total_PTM)
        for base, (x, gradient, total) in zip(bases, parts, strict=True):
            factor = _factor(base)
            spread = sums.of(torch.mul(x, factor).div_(base), gradient)
            torch.addcmul(gradient * factor, spread, x, value=scale, out=total)
        return _as_images(total_PTM, gradients[0]), None, None


def norm_over_positions(x_NCHW: Tensor) -> Tensor:
    """x / (1 + 1e-3 * mean of x² over 5 x 5 positions)^0.75, each map alone, zeros around it.

    `cnorm2` of layers-145.cfg in the released code, which the paper does not mention.
    (N, C, H, W) -> (N, C, H, W); computed in float32 at least.
    """
    with torch.autocast(x_NCHW.device.type, enabled=False):
        wide_NCHW = x_NCHW.to(torch.promote_types(x_NCHW.dtype, torch.float32))
        mean_NCHW = F.avg_pool2d(wide_NCHW.square(), 5, stride=1, padding=2)
        return (wide_NCHW * (1 + 1e-3 * mean_NCHW).pow(-0.75)).to(x_NCHW.dtype)


class _MapSums:
    """Sums over maps c-2 .. c+2 of the same tower, in float32 or, of float64, in float64.

    On a processor the maps of a tower lie between two zeros on either side. So a sum runs over the
    memory of many positions in one go, in three long additions where each position would take four
    short ones. On a GPU pooling sums in one launch.
    """

    def __init__(self, x_PTM: Tensor) -> None:
        positions, towers, maps = x_PTM.shape
        self.dtype = torch.promote_types(x_PTM.dtype, torch.float32)
        self.pools = _few_launches(x_PTM)
        most = MOST_POOLED if self.pools else CACHED_BYTES // self.dtype.itemsize
        self.positions = max(1, min(positions, most // (towers * maps)))
        if not self.pools:
            # A sum reads four values beyond the last position's.
            shape = self.positions + 1, towers, maps + 4
            self.padded_PTM = x_PTM.new_zeros(shape, dtype=self.dtype)

    def parts(self, *tensors_PTM: Tensor) -> zip:
        """The tensors side by side in parts of `self.positions`."""
        return zip(*(tensor.split(self.positions) for tensor in tensors_PTM), strict=True)

    def of(self, a_PTM: Tensor, b_PTM: Tensor) -> Tensor:
        """The sums of the products a·b, for up to `self.positions` positions."""
        if self.pools:
            product_PTM = _product(a_PTM, b_PTM, self.dtype)
            return F.avg_pool2d(product_PTM, (1, 5), 1, (0, 2), divisor_override=1)
        padded_PTM = self.padded_PTM[: len(a_PTM)]
        torch.mul(a_PTM.to(self.dtype), b_PTM, out=padded_PTM[..., 2:-2])
        values, size = self.padded_PTM.flatten(), padded_PTM.numel()
        pair = values[: size + 2] + values[1 : size + 3]
        total = (pair[:-2] + pair[2:]).add_(values[4 : size + 4])
        return total.view_as(padded_PTM)[..., :-4]


def _product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """a·b in `dtype`, by one launch that reads 16-bit values as they are."""
    if a.dtype == dtype:
        return torch.mul(a, b)
    return torch.addcmul(a.new_zeros(1, dtype=dtype), a, b)


def _by_position(x_NCHW: Tensor, towers: int) -> Tensor:
    """(P, T, M); a view if `x_NCHW` is in channels_last."""
    x_NHWC = x_NCHW.permute(0, 2, 3, 1).contiguous()
    return x_NHWC.view(-1, towers, x_NHWC.shape[-1] // towers)


def _as_images(x_PTM: Tensor, like_NCHW: Tensor) -> Tensor:
    images, channels, rows, columns = like_NCHW.shape
    return x_PTM.view(images, rows, columns, channels).permute(0, 3, 1, 2)


def _few_launches(x: Tensor) -> bool:
    """Whether `x` is where launches cost more than memory: not on a processor."""
    return x.device.type != "cpu"


def _factor(base: Tensor) -> Tensor:
    """base^-0.75; on a processor without a pow, which takes it longer than two roots."""
    if _few_launches(base):
        return base.pow(-LocalResponseNorm.BETA)
    root = base.rsqrt()
    return root.sqrt().mul_(root)
