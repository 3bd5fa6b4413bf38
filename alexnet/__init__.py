"""What training and serving agree on: the network, the pixel rules and the checkpoint format.

And a published model as a function of photographs, for Python programs:

    model = alexnet.load("models/shapes")
    model("photo.jpg")
"""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alexnet.classifier import Classifier


def load(
    model: str | os.PathLike[str], *others: str | os.PathLike[str], device: str | None = None
) -> "Classifier":
    """The model published in `model`: models/NAME, that is its newest step, or models/NAME/STEP, in
    a folder or below a URL such as s3://bucket/models.

    With `others`, which must have the same classes, it answers by the mean of their probabilities.
    `device` is "cpu", "cuda" or "cuda:1"; by default the GPU where there is one. Raises UserError
    where a folder holds no published model or a damaged one, and where there is no such device.
    """
    from alexnet.classifier import Classifier
    from alexnet.predictor import Predictor
    from alexnet.store import models
    from alexnet.store.url import place

    loaded = [models.load(place(os.fspath(m))) for m in (model, *others)]
    return Classifier(Predictor(loaded, device))
