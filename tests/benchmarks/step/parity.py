"""How far the fast network is from the plain one: logits, answers, losses."""

from collections.abc import Sequence

import torch
from pydantic import BaseModel
from torch import Tensor

from alexnet.model import AlexNetConfig
from tests.benchmarks.network import plain
from tests.benchmarks.step.contenders import (
    CPU,
    DECAY,
    LEARNING_RATE,
    MOMENTUM,
    noise,
    our_network,
    plain_sgd,
    plain_step,
)
from trainer.loop.optimizer import SGD2012
from trainer.loop.precision import autocast
from trainer.loop.step import StepPosition, train_step

VIEWS = 64
"""Images whose logits are compared."""


class Parity(BaseModel):
    logit: float
    """Largest value of a logit, in size; what the differences are to be seen against."""
    float32: float
    """Largest difference of a logit, ours against eager float32 with nn.LocalResponseNorm."""
    bfloat16: float
    """Largest difference of a logit, ours in bfloat16 against ours in float32."""
    top5: float
    """Share of the first-five answers that bfloat16 and float32 have in common."""
    steps: int
    loss: float
    """Largest relative difference of the two losses over the steps, dropout off."""

    def __str__(self) -> str:
        return (
            f"logits up to {self.logit:.3g}: float32 differs from nn.LocalResponseNorm's by up to "
            f"{self.float32:.2g}, bfloat16 from float32 by {self.bfloat16:.2g} with "
            f"{self.top5:.1%} of the five best in common; losses of {self.steps} steps differ by "
            f"up to {self.loss:.2g} of their value"
        )


def compare(network: AlexNetConfig, steps: int, batch: int) -> Parity:
    """Train from the same weights on the same noise, `steps` of `batch` images each."""
    network = network.model_copy(update={"dropout": 0.0})
    ours = our_network(network)
    peer = plain(ours)

    image_NCHW = noise(network, VIEWS).image_NCHW
    with torch.inference_mode():
        plain_NK, float32_NK = peer(image_NCHW.contiguous()), ours(image_NCHW)
        with autocast("bf16", CPU):
            bfloat16_NK = ours(image_NCHW).float()

    data = [noise(network, batch) for _ in range(5)]
    optimizers = SGD2012(ours, LEARNING_RATE, MOMENTUM, DECAY), plain_sgd(peer)
    losses = []
    for step in range(steps):
        part = data[step % len(data)]
        place = StepPosition(seed=0, epoch=0, position=step * batch, real=batch, first=0)
        total, _, _ = train_step(
            ours, optimizers[0], part, place, world=1, precision="fp32"
        ).tolist()
        loss = plain_step(peer, optimizers[1], part.image_NCHW.contiguous(), part.label_N)
        losses.append((total / batch, loss))
    return Parity(
        logit=plain_NK.abs().max().item(),
        float32=(float32_NK - plain_NK).abs().max().item(),
        bfloat16=(bfloat16_NK - float32_NK).abs().max().item(),
        top5=in_common(bfloat16_NK, float32_NK),
        steps=steps,
        loss=widest(losses),
    )


def in_common(a_NK: Tensor, b_NK: Tensor) -> float:
    """Share of the five best labels of each row that both have, 0..1."""
    best_N15, other_N51 = (
        x.topk(min(5, x.shape[1]), dim=1).indices.unsqueeze(axis)
        for x, axis in ((a_NK, 1), (b_NK, 2))
    )
    return (best_N15 == other_N51).any(dim=1).double().mean().item()


def widest(pairs: Sequence[tuple[float, float]]) -> float:
    """Largest difference within a pair, relative to its second value."""
    return max((abs(a - b) / abs(b) for a, b in pairs), default=0.0)
