"""Pictures to probabilities; no HTTP in it."""

import torch
from torch import Tensor

from alexnet.checkpoint import Checkpoint
from alexnet.views import probabilities


class Predictor:
    """A loaded model, on the GPU where there is one, that has answered once already."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.about = checkpoint.about
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = checkpoint.model.to(  # type: ignore[call-overload]
            self.device, memory_format=torch.channels_last
        )
        self._mean_3HW = checkpoint.mean_3HW.to(self.device)
        size = self.about.size
        self(torch.zeros(1, 3, size, size, dtype=torch.uint8), views=10)

    @torch.inference_mode()
    def __call__(self, picture_N3HW: Tensor, views: int) -> Tensor:
        """(N, 3, size, size) uint8 -> (N, K) float32 on the CPU, mean over 1 or 10 views (§4.1)."""
        picture_N3HW = picture_N3HW.to(self.device)
        return probabilities(self._model, picture_N3HW, self._mean_3HW, views).cpu()
