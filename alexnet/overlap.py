"""conv1 over ten views at the price of three: what views have in common it looks at once.

conv1 is linear, and a view is a window of the whole image less the mean. So its maps of a view
are a window of its maps of the whole image less its maps of the mean, where views start at
multiples of its stride. Only the last row and column differ: they see zeros where the image goes
on (§3.5).

Shapes: N images, P places, C kernels, H rows, W columns, S rows and columns of a whole image.
"""

from collections.abc import Sequence
from typing import TypeGuard

import torch
from torch import Tensor

from alexnet.model import AlexNet

STRIDE = 4
"""Pixels between neighbouring windows of conv1 (§3.5)."""

Places = Sequence[tuple[int, int]]
"""First row and column of each crop."""


def is_shared(
    model: object, image_N3SS: Tensor, mean_3HW: Tensor, places: Places
) -> TypeGuard[AlexNet]:
    """Whether `conv1_maps` may take the place of `model`'s own conv1."""
    last = image_N3SS.shape[-1] - mean_3HW.shape[-1]
    return (
        isinstance(model, AlexNet)
        and image_N3SS.device.type == "cpu"  # on a GPU launches cost more than conv1
        and model.config.conv1_padding == 0
        and all(start % STRIDE == 0 for place in (*places, (last, last)) for start in place)
        and not torch.is_grad_enabled()
        # 16 bits would round both maps before their difference is taken.
        and mean_3HW.dtype == torch.float32
        and not torch.is_autocast_enabled(image_N3SS.device.type)
    )


def conv1_maps(network: AlexNet, image_N3SS: Tensor, mean_3HW: Tensor, places: Places) -> Tensor:
    """The maps of conv1 for the crops at `places` and then for their mirrors, all less the mean.

    (N, 3, S, S) uint8 -> (N * 2 P, C, H, W) float32 in channels_last.
    """

    def maps(image_N3HW: Tensor) -> Tensor:
        image_N3HW = image_N3HW.to(mean_3HW.dtype, memory_format=torch.channels_last)
        return network.conv1(network.pad(image_N3HW))

    assert network.conv1.bias is not None
    mean_CHW = maps(mean_3HW[None])[0] - network.conv1.bias[:, None, None]
    kernels, side, _ = mean_CHW.shape
    crop, edge = mean_3HW.shape[-1], STRIDE * (side - 1)
    last = image_N3SS.shape[-1] - crop
    shape = len(image_N3SS), 2, len(places), side, side, kernels
    result_N2PCHW = mean_CHW.new_empty(shape).movedim(-1, 3)
    for mirrored, facing_N3SS in enumerate((image_N3SS, image_N3SS.flip(-1))):
        whole_NCHW = maps(facing_N3SS)
        for place, (y, x) in enumerate(places):
            x = last - x if mirrored else x
            result_NCHW = result_N2PCHW[:, mirrored, place]
            rows, columns = (slice(start // STRIDE, start // STRIDE + side) for start in (y, x))
            torch.sub(whole_NCHW[..., rows, columns], mean_CHW, out=result_NCHW)
            view_N3HW = facing_N3SS[..., y : y + crop, x : x + crop]
            # Windows that stick out of the view see zeros there.
            if y < last:
                result_NCHW[..., -1:, :] = maps(view_N3HW[..., edge:, :]) - mean_CHW[..., -1:, :]
            if x < last:
                result_NCHW[..., -1:] = maps(view_N3HW[..., edge:]) - mean_CHW[..., -1:]
    return result_N2PCHW.flatten(0, 2)
