"""Where the network looks: how far an answer falls when a part of the image is hidden.

Shapes: N images, S rows and columns of each, H rows and W columns of a view.
"""

import torch
from torch import Tensor

from alexnet.predictor import BATCH_VIEWS, Predictor
from alexnet.views import centre_input

PATCHES = 10
"""Rows, and columns, of places that are hidden."""


@torch.inference_mode()
def occlusion(image_N3SS: Tensor, predictor: Predictor, label: int) -> Tensor:
    """How far the probability of `label` falls where a patch of the mean colour hides a part.

    (N, 3, S, S) uint8 -> (N, crop, crop) float32, over the centre view: at each pixel the
    mean of all patches that hide it. (Zeiler and Fergus, 2013, §4.2, by the first member.)
    """
    views = centre_input(image_N3SS.to(predictor.device), predictor.mean_3HW)
    return torch.stack([_of_view(view_3HW, predictor, label) for view_3HW in views])


def _of_view(view_3HW: Tensor, predictor: Predictor, label: int) -> Tensor:
    crop = predictor.crop
    side = crop // 5
    starts = torch.linspace(0, crop - side, PATCHES).round().int().tolist()
    places = [(slice(y, y + side), slice(x, x + side)) for y in starts for x in starts]
    hidden_N3HW = view_3HW.expand(1 + len(places), -1, -1, -1).clone(
        memory_format=torch.channels_last
    )
    for hidden_3HW, place in zip(hidden_N3HW[1:], places, strict=True):
        hidden_3HW[:, *place] = 0
    parts = hidden_N3HW.split(BATCH_VIEWS[predictor.device.type])
    temperature = predictor.about.temperature(views=1)
    probability_N = torch.cat(
        [(predictor.network(p) / temperature).softmax(1)[:, label] for p in parts]
    ).float()
    fall_HW, covered_HW = torch.zeros(2, crop, crop, device=predictor.device)
    for place, fall in zip(places, probability_N[0] - probability_N[1:], strict=True):
        fall_HW[place] += fall
        covered_HW[place] += 1
    return (fall_HW / covered_HW).cpu()
