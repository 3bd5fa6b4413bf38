"""A fixed image, and what a network says of it: proof that two programs compute the same.

Weights can be whole, by their SHA-256, and the software around them wrong.
"""

from collections.abc import Callable
from typing import Annotated, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from alexnet.command import UserError
from alexnet.views import probabilities

GUESSES = 5
TOLERANCE, TF32_TOLERANCE = 1e-3, 1e-2
"""The most that a probability may differ: processors, GPUs and versions of torch differ by less,
mistakes by more. The second is for GPUs whose convolutions round to TF32, as torch lets them: an
H100 then differs by up to 0.003."""

Model = Callable[[Tensor], Tensor]


class Golden(BaseModel):
    """The most probable labels of the golden image, by one view, in float32."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    labels: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1, max_length=GUESSES)
    probabilities: tuple[Annotated[float, Field(ge=0, le=1.001)], ...]

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(set(self.labels)) != len(self.probabilities):
            raise ValueError(
                f"golden has {len(self.probabilities)} probabilities for {len(set(self.labels))} "
                "labels"
            )
        return self


def image(size: int) -> np.ndarray:
    """(size, size, 3) uint8: waves of several lengths and directions under noise, always the same.

    So all kernels answer: those for edges, for colours and for texture.
    """
    place = np.linspace(0, 2 * np.pi, size)
    y, x = place[:, None, None], place[None, :, None]
    wave = np.array([1.0, 2.0, 5.0])
    smooth = np.sin(3 * wave * x + y) + np.cos(wave * (x - 2 * y)) + np.sin(wave * x * y)
    noise = np.random.Generator(np.random.Philox(2012)).random((size, size, 3))
    return (255 * (0.4 + 0.12 * smooth + 0.24 * noise)).clip(0, 255).astype(np.uint8)


def answer(model: Model, mean_3HW: Tensor, size: int) -> Golden:
    """What a model in evaluation mode, on the device of `mean_3HW`, says of the golden image.
    Raises UserError where that is no probability."""
    probability_K = _probabilities(model, mean_3HW, size)
    best = probability_K.topk(min(GUESSES, len(probability_K)))
    return Golden(labels=tuple(best.indices.tolist()), probabilities=tuple(best.values.tolist()))


def check(model: Model, mean_3HW: Tensor, size: int, golden: Golden | None) -> None:
    """Raise UserError where the model's answer is no probability, or not `golden`.

    Models published before there were golden answers have none.
    """
    probability_K = _probabilities(model, mean_3HW, size)
    if golden is None:
        return
    found = probability_K[list(golden.labels)] - torch.tensor(golden.probabilities)
    difference = found.abs().max().item()
    tf32 = mean_3HW.is_cuda and torch.backends.cudnn.allow_tf32
    tolerance = TF32_TOLERANCE if tf32 else TOLERANCE
    if difference > tolerance:
        raise UserError(
            f"the model's probabilities for the built-in test image differ by {difference:.2g} "
            f"from those recorded when it was published (allowed: {tolerance:g}), so this "
            "installation computes something else; install the versions listed in the model's "
            "about.json"
        )


@torch.inference_mode()
def _probabilities(model: Model, mean_3HW: Tensor, size: int) -> Tensor:
    image_13SS = torch.from_numpy(image(size)).permute(2, 0, 1)[None].to(mean_3HW.device)
    probability_K = probabilities(model, image_13SS, mean_3HW, views=1)[0].cpu()
    if not torch.isfinite(probability_K).all():
        raise UserError(
            "the model's probabilities are not finite numbers: its training diverged; "
            "publish an earlier checkpoint"
        )
    return probability_K
