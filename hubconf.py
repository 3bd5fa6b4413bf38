"""For `torch.hub.load(FOLDER, "alexnet", source="local")`: the network, for any PyTorch program."""

import os
from typing import Any

from alexnet.command import UserError as _UserError
from alexnet.model import AlexNet as _AlexNet
from alexnet.model import AlexNetConfig as _AlexNetConfig
from alexnet.store.models import load as _load
from alexnet.store.url import place as _place

dependencies = ["torch", "numpy", "PIL", "pydantic", "safetensors", "obstore"]


def alexnet(weights: str | os.PathLike[str] | None = None, **network: Any) -> _AlexNet:
    """AlexNet of 2012: (N, 3, crop, crop) float -> logits (N, classes).

    Its input is RGB on the scale from 0 to 255, less the mean image of its training data. `crop`
    is 224 unless said otherwise.

    Without `weights` it is initialised as in 2012, in training mode, and `network` says what
    differs from the paper: classes=10, width=0.5, crop=144 and all other fields of
    `alexnet.model.AlexNetConfig`. With `weights`, a published model's folder ("models/NAME") or
    URL, it is that network in evaluation mode; `alexnet.load("models/NAME")` also has its mean
    image, its classes, and `inputs`, which makes its input of a photograph. Its logits are not
    divided by the temperature of a calibrated model,
    `alexnet.load("models/NAME").about.temperature(views=1)`.
    """
    if weights is None:
        return _AlexNet(_AlexNetConfig(**network))
    if network:
        raise _UserError(
            f"{weights} is a network that is complete; give it without {', '.join(network)}"
        )
    return _load(_place(os.fspath(weights))).model
