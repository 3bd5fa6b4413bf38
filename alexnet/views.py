"""What the network sees of an image, and the mean of its answers; for validating and serving.

Shapes: N images, V views, K classes, H rows, W columns, S rows and columns of a whole image.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from alexnet import overlap

CENTRE = 2
"""Which of the ten views is the centre, the one of `one_view`."""


def centre(side: int, crop: int) -> int:
    """First row (and column) of the centre crop: 16 for 224 of 256."""
    return (side - crop) // 2


def five_places(side: int, crop: int) -> tuple[tuple[int, int], ...]:
    """First row and column of each crop: top left, top right, centre, bottom left and right."""
    last, middle = side - crop, centre(side, crop)
    return (0, 0), (0, last), (middle, middle), (last, 0), (last, last)


def one_place(side: int, crop: int) -> tuple[tuple[int, int], ...]:
    """First row and column of the centre crop, in the form of `five_places`."""
    return (five_places(side, crop)[CENTRE],)


def ten_views(image_N3SS: Tensor, crop: int) -> Tensor:
    """Four corners and the centre, then their mirrors (§4.1, convdata_jpeg.py).

    (N, 3, S, S) -> (N, 10, 3, crop, crop).
    """
    places = five_places(image_N3SS.shape[-1], crop)
    views = [image_N3SS[..., y : y + crop, x : x + crop] for y, x in places]
    return torch.stack(views + [view.flip(-1) for view in views], dim=1)


def one_view(image_N3SS: Tensor, crop: int) -> Tensor:
    """The centre: (N, 3, S, S) -> (N, 1, 3, crop, crop)."""
    start = centre(image_N3SS.shape[-1], crop)
    return image_N3SS[:, None, :, start : start + crop, start : start + crop]


def centre_input(image_N3SS: Tensor, mean_3HW: Tensor) -> Tensor:
    """The centre as the network takes it: (N, 3, S, S) uint8 -> (N, 3, crop, crop) float32."""
    view_N3HW = one_view(image_N3SS, mean_3HW.shape[-1])[:, 0]
    return view_N3HW.to(memory_format=torch.channels_last) - mean_3HW


def centre_mean(mean_SS3: np.ndarray, crop: int) -> Tensor:
    """The part of the mean image subtracted from every crop, wherever cut, never mirrored.

    (S, S, 3) float32 -> (3, crop, crop) float32. As released (convdata_jpeg.py).
    """
    return one_view(torch.from_numpy(mean_SS3).permute(2, 0, 1)[None], crop)[0, 0].contiguous()


def view_probabilities(
    model: Callable[[Tensor], Tensor],
    image_N3SS: Tensor,
    mean_3HW: Tensor,
    views: int,
    whole_mean_3SS: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Softmax of each of one or ten views: (N, 3, S, S) uint8 -> (N, V, K).

    `temperature` divides the logits (see `alexnet.calibration`).
    """
    logit_NVK = view_logits(model, image_N3SS, mean_3HW, views, whole_mean_3SS)
    return (logit_NVK / temperature).softmax(dim=2)


def view_logits(
    model: Callable[[Tensor], Tensor],
    image_N3SS: Tensor,
    mean_3HW: Tensor,
    views: int,
    whole_mean_3SS: Tensor | None = None,
) -> Tensor:
    """Logits of each of one or ten views: (N, 3, S, S) uint8 -> (N, V, K) float32.

    One forward pass for all views of all images. Where there is a `whole_mean_3SS`, the mean of a
    view is its part at the same place, mirrored where the view is, as in Caffe
    (src/caffe/data_transformer.cpp); else the mean of each view is `mean_3HW`.
    """
    crop = mean_3HW.shape[-1]
    places = five_places(image_N3SS.shape[-1], crop)
    cut = ten_views if views == 10 else one_view
    if whole_mean_3SS is not None:
        view_M3HW = cut(image_N3SS - whole_mean_3SS, crop).flatten(0, 1)
        logit_MK = model(view_M3HW.to(memory_format=torch.channels_last))
    elif views == 10 and overlap.is_shared(model, image_N3SS, mean_3HW, places):
        x_MCHW = overlap.conv1_maps(model, image_N3SS, mean_3HW, places)
        logit_MK = model.fc8(model.features_from_conv1(x_MCHW))
    else:
        view_M3HW = cut(image_N3SS, crop).flatten(0, 1)
        logit_MK = model(view_M3HW.to(memory_format=torch.channels_last) - mean_3HW)
    return logit_MK.float().unflatten(0, (len(image_N3SS), views))


def probabilities(
    model: Callable[[Tensor], Tensor], image_N3SS: Tensor, mean_3HW: Tensor, views: int
) -> Tensor:
    """Mean of the softmax over one or ten views (§4.1): (N, 3, S, S) uint8 -> (N, K).

    Probabilities are averaged, not logits.
    """
    return view_probabilities(model, image_N3SS, mean_3HW, views).mean(dim=1)
