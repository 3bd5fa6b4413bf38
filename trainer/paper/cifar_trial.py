"""One training of the four-layer network on CIFAR-10, without regularisation (Figure 1)."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.loop.optimizer import SGD2012
from trainer.paper.four_layers import Activation, FourLayers

BATCH = 128


def training_errors(
    image_N3HW: Tensor, label_N: Tensor, activation: Activation, rate: float, seed: int
) -> Iterator[float]:
    """The training error of one epoch after another, without end.

    `image_N3HW` is uint8 and `label_N` int64, on the device that computes. The mean image is
    subtracted; there is neither weight decay nor augmentation. As in the released code the error of
    an epoch is that of its mini-batches, each before its step. The weights and the order of the
    images depend on the seed alone.
    """
    device = image_N3HW.device
    x_N3HW = image_N3HW.float()
    x_N3HW = (x_N3HW - x_N3HW.mean(0)).contiguous(memory_format=torch.channels_last)
    network = FourLayers(activation, seed)
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = SGD2012(network, rate, weight_decay=0)
    order = torch.Generator().manual_seed(seed)
    while True:
        wrong = torch.zeros((), dtype=torch.int64, device=device)
        for batch_B in torch.randperm(len(x_N3HW), generator=order).to(device).split(BATCH):
            logit_BK, label_B = network(x_N3HW[batch_B]), label_N[batch_B]
            wrong += (logit_BK.detach().argmax(1) != label_B).sum()
            optimizer.zero_grad()
            F.cross_entropy(logit_BK, label_B).backward()
            optimizer.step()
        yield wrong.item() / len(label_N)
