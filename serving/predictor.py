"""Pictures to answers; no HTTP in it.

Shapes: N pictures, S rows and columns of each, V views, K classes, H hidden units.
"""

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256

import torch
from torch import Tensor

from alexnet import golden
from alexnet.checkpoint import Checkpoint, CheckpointError
from alexnet.model import AlexNet
from alexnet.views import one_view, view_probabilities
from serving.schemas import ModelName

BATCH_VIEWS = {"cpu": 80, "cuda": 640}
"""Views of one forward pass: beyond these it takes longer and does no more a second."""
PATCHES = 10
"""Rows, and columns, of places that `occlusion` hides."""


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def centre_features(model: AlexNet, picture_N3SS: Tensor, mean_3HW: Tensor) -> Tensor:
    """The last hidden layer of the centre view, (N, 3, S, S) uint8 -> (N, H) float32."""
    view_N3HW = one_view(picture_N3SS, mean_3HW.shape[-1])[:, 0]
    return model.features(view_N3HW.to(memory_format=torch.channels_last) - mean_3HW)


class Predictor:
    """A loaded model, or several as one, on the GPU where there is one; has answered once already.

    Raises UserError where they do not fit together, or compute something else here than they did
    where they were published.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        self.device = device()
        self.abouts = [checkpoint.about for checkpoint in checkpoints]
        self.about = self.abouts[0]
        for other in self.abouts[1:]:
            for field in ("classes", "size", "rule"):
                if getattr(other, field) != getattr(self.about, field):
                    raise CheckpointError(
                        f"{self.about.name} and {other.name} cannot answer together: "
                        f"their {field} differ; serve them one by one"
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
        for (model, mean_3HW), about in zip(self._members, self.abouts, strict=True):
            golden.check(model, mean_3HW, about.size, about.golden)
        size = self.about.size
        self.classify(torch.zeros(1, 3, size, size, dtype=torch.uint8), views=10)

    @cached_property
    def name(self) -> ModelName:
        """Of an ensemble, of all members together."""
        names = [ModelName.of(about) for about in self.abouts]
        if len(names) == 1:
            return names[0]
        digest = sha256("".join(name.sha256 for name in names).encode()).hexdigest()
        return ModelName(
            name="+".join(name.name for name in names),
            step=max(name.step for name in names),
            sha256=digest,
        )

    @property
    def crop(self) -> int:
        """Rows and columns of the first member's views."""
        return self._members[0][1].shape[-1]

    @torch.inference_mode()
    def classify(self, picture_N3HW: Tensor, views: int) -> Tensor:
        """(N, 3, size, size) uint8 -> (N, V, K) float32 on the CPU, of 1 or 10 views (§4.1)."""
        picture_N3HW = picture_N3HW.to(self.device)
        member_MNVK = [
            view_probabilities(model, picture_N3HW, mean_3HW, views)
            for model, mean_3HW in self._members
        ]
        return torch.stack(member_MNVK).mean(dim=0).cpu()

    def features(self, picture_N3HW: Tensor) -> Tensor:
        """Of the first member's last hidden layer, centre view: (N, 3, size, size) -> (N, H)."""
        model, mean_3HW = self._members[0]
        return centre_features(model, picture_N3HW.to(self.device), mean_3HW).cpu()

    @torch.inference_mode()
    def occlusion(self, picture_N3HW: Tensor, label: int) -> Tensor:
        """How far the probability of `label` falls where a patch of the mean colour hides a part.

        (N, 3, size, size) uint8 -> (N, crop, crop) float32, over the centre view: at each pixel the
        mean of all patches that hide it. (Zeiler and Fergus, 2013, §4.2, by the first member.)
        """
        return torch.stack([self._occlusion(picture_3HW, label) for picture_3HW in picture_N3HW])

    def _occlusion(self, picture_3HW: Tensor, label: int) -> Tensor:
        model, mean_3HW = self._members[0]
        crop = self.crop
        view_3HW = one_view(picture_3HW[None].to(self.device), crop)[0, 0] - mean_3HW
        side = crop // 5
        starts = torch.linspace(0, crop - side, PATCHES).round().int().tolist()
        places = [(slice(y, y + side), slice(x, x + side)) for y in starts for x in starts]
        hidden_N3HW = view_3HW.expand(1 + len(places), -1, -1, -1).clone(
            memory_format=torch.channels_last
        )
        for hidden_3HW, place in zip(hidden_N3HW[1:], places, strict=True):
            hidden_3HW[:, *place] = 0
        parts = hidden_N3HW.split(BATCH_VIEWS[self.device.type])
        probability_N = torch.cat([model(part).softmax(1)[:, label] for part in parts]).float()
        fall_HW, covered_HW = torch.zeros(2, crop, crop, device=self.device)
        for place, fall in zip(places, probability_N[0] - probability_N[1:], strict=True):
            fall_HW[place] += fall
            covered_HW[place] += 1
        return (fall_HW / covered_HW).cpu()

    def kernels(self) -> Tensor:
        """conv1's, of the first member: (C, 3, 11, 11) float32 (§6.1, Figure 3)."""
        return self._members[0][0].conv1.weight.float().cpu()
