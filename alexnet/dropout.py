"""Dropout as in 2012 (§4.2), its masks a function of seed and place.

Shapes: N rows of a batch, H units.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

GAMMA = 0x9E3779B97F4A7C15
"""Step of SplitMix64's state, the golden ratio's."""
FINALIZER = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
"""The rounds of SplitMix64: what each shifts by, and then multiplies with."""


class Draw(NamedTuple):
    """Where the random bits of one forward pass in training are found.

    A bit depends on `key`, on its row of the global batch and on its unit of the whole layer, so
    that neither the device nor how many workers share the batch or the layer changes anything.
    """

    key: int
    """64 bits."""
    first: int
    """Row of the global batch that is the input's first."""


class Dropout2012(nn.Module):
    """Zero each output with probability p in training, scale by 1 - p at test (§4.2).

    `nn.Dropout` scales in training instead: activations twice as large, and a start of the run
    that this initialisation was not made for.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.tower = (0, 1)
        """(index, count), where the input is one tower's share of the units."""

    def forward(self, x_NH: Tensor, mask_NH: Tensor | None = None) -> Tensor:
        """(N, H) -> (N, H). Without a mask it comes from torch's own generator."""
        if not self.training:
            return x_NH * (1 - self.p)
        if mask_NH is None:
            mask_NH = torch.empty_like(x_NH).bernoulli_(1 - self.p)
        return x_NH * mask_NH

    def masks(self, x_NH: Tensor, draw: Draw | None) -> tuple[Tensor | None, Tensor | None]:
        """Masks for two layers of x's shape, (N, H) bool: False is dropped. None without `draw`.

        Each layer compares a half of the same words, 32 bits, with p.
        """
        if draw is None:
            return None, None
        (rows, units), (index, towers) = x_NH.shape, self.tower
        start = draw.first * towers * units + index * units
        word_NH = words(draw.key, start, (rows, units), towers * units, x_NH.device)
        half_NH2 = word_NH.view(torch.int32).view(rows, units, 2)
        first_NH, second_NH = (half_NH2 >= int(self.p * 2**32) - 2**31).unbind(-1)
        return first_NH, second_NH


class InvertedDropout(Dropout2012):
    """Dropout as in `nn.Dropout`: what is kept is divided by 1 - p in training, and nothing is done
    at test; with the masks of 2012's."""

    def forward(self, x_NH: Tensor, mask_NH: Tensor | None = None) -> Tensor:
        return super().forward(x_NH, mask_NH) / (1 - self.p) if self.training else x_NH


def words(
    key: int, start: int, shape: tuple[int, int], stride: int, device: torch.device
) -> Tensor:
    """Word start + row * stride + column of SplitMix64 seeded with `key`, as int64 of that shape.

    Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014. Its state
    is a counter, so that any word can be had by itself; integers wrap alike on every device.
    """
    rows, columns = shape
    first = torch.tensor(_signed(key + (start + 1) * GAMMA))
    column_C = torch.arange(columns, device=device)
    row_R1 = torch.arange(rows, device=device)[:, None]
    word_RC = torch.add(first, column_C, alpha=_signed(GAMMA))
    word_RC = torch.add(word_RC, row_R1, alpha=_signed(stride * GAMMA))
    for shift, factor in FINALIZER:
        # int64 shifts copies of its sign in.
        shifted_RC = (word_RC >> shift).bitwise_and_(2 ** (64 - shift) - 1)
        word_RC.bitwise_xor_(shifted_RC)
        if factor != 1:
            word_RC.mul_(_signed(factor))
    return word_RC


def _signed(value: int) -> int:
    """The int64 of the same lowest 64 bits."""
    return (value + 2**63) % 2**64 - 2**63
