"""Pictures to probabilities, by a published model or by several as one.

Shapes: N pictures, S rows and columns of each, V views, K classes, H hidden units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from alexnet import golden
from alexnet.checkpoint import Checkpoint, CheckpointError
from alexnet.command import UserError
from alexnet.model import AlexNet
from alexnet.views import centre_input, view_probabilities

BATCH_VIEWS = {"cpu": 80, "cuda": 640}
"""Views of one forward pass: beyond these it takes longer and does no more a second."""


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def centre_features(model: AlexNet, picture_N3SS: Tensor, mean_3HW: Tensor) -> Tensor:
    """The last hidden layer of the centre view, (N, 3, S, S) uint8 -> (N, H) float32."""
    return model.features(centre_input(picture_N3SS, mean_3HW))


class Predictor:
    """A loaded model, or several as one, on a device; has answered once already.

    `device` is "cpu", "cuda" or "cuda:1"; by default the GPU where there is one. Raises UserError
    where there is no such device, and where the models do not fit together, or compute something
    else here than they did where they were published.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], device: str | None = None) -> None:
        self.device = default_device() if device is None else _device(device)
        self.abouts = [checkpoint.about for checkpoint in checkpoints]
        self.about = self.abouts[0]
        for other in self.abouts[1:]:
            for field in ("classes", "size", "rule"):
                if getattr(other, field) != getattr(self.about, field):
                    raise CheckpointError(
                        f"{self.about.name} and {other.name} cannot answer together: "
                        f"their {field} differ; use them one by one"
                    )
        self._members = [
            (
                checkpoint.model.to(  # type: ignore[call-overload]
                    self.device, memory_format=torch.channels_last
                ),
                checkpoint.mean_3HW.to(self.device),
            )
            for checkpoint in checkpoints
        ]
        self.network: AlexNet
        self.mean_3HW: Tensor
        self.network, self.mean_3HW = self._members[0]
        for (model, mean_3HW), about in zip(self._members, self.abouts, strict=True):
            golden.check(model, mean_3HW, about.size, about.golden)
        size = self.about.size
        self.classify(torch.zeros(1, 3, size, size, dtype=torch.uint8), views=10)

    @property
    def crop(self) -> int:
        """Rows and columns of the first member's views."""
        return self.mean_3HW.shape[-1]

    @torch.inference_mode()
    def classify(self, picture_N3SS: Tensor, views: int) -> Tensor:
        """(N, 3, S, S) uint8 -> (N, V, K) float32 on the CPU, of 1 or 10 views (§4.1)."""
        picture_N3SS = picture_N3SS.to(self.device)
        member_MNVK = [
            view_probabilities(model, picture_N3SS, mean_3HW, views)
            for model, mean_3HW in self._members
        ]
        return torch.stack(member_MNVK).mean(dim=0).cpu()

    def features(self, picture_N3SS: Tensor) -> Tensor:
        """Of the first member's last hidden layer, centre view: (N, 3, S, S) -> (N, H)."""
        return centre_features(self.network, picture_N3SS.to(self.device), self.mean_3HW).cpu()


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        usable = device.type in BATCH_VIEWS
    except RuntimeError:  # no device has such a name
        usable = False
    if not usable:
        raise UserError(f"device is {name!r}; expected 'cpu', 'cuda' or 'cuda:1' and so on")
    if device.type == "cuda" and (device.index or 0) >= (found := torch.cuda.device_count()):
        raise UserError(
            f"device is {name!r}, and torch finds {found} GPUs; give device='cpu', or none: "
            "then a GPU is used where there is one"
        )
    return device
