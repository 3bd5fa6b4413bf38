"""Images to probabilities, by a published model or by several as one.

Shapes: N images, S rows and columns of each, V views, K classes, H hidden units.
"""

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor
from torch.nn.functional import pad

from alexnet import golden
from alexnet.checkpoint import About, Checkpoint, CheckpointError
from alexnet.command import UserError
from alexnet.model import AlexNet
from alexnet.views import centre_input, view_probabilities

BATCH_VIEWS = {"cpu": 20, "cuda": 640}
"""Views of one forward pass. On a CPU a network of at least half the paper's width does no more a
second with more of them, which leave its caches."""


def default_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@torch.inference_mode()
def centre_features(model: AlexNet, image_N3SS: Tensor, mean_3HW: Tensor) -> Tensor:
    """The last hidden layer of the centre view, (N, 3, S, S) uint8 -> (N, H) float32."""
    return model.features(centre_input(image_N3SS, mean_3HW))


def pass_bytes(about: About) -> int:
    """About how much of the system's memory a forward pass of a full batch takes, by the maps of
    conv1: measured, 3 to 5.1 times what they take, and nothing to speak of beside a GPU."""
    if default_device().type != "cpu":
        return 0
    with torch.device("meta"):
        kernels = AlexNet(about.network).conv1.out_channels
    views, image = BATCH_VIEWS["cpu"], BATCH_VIEWS["cpu"] // 10
    return 4 * kernels * (5 * views * about.network.crop**2 + 2 * image * about.size**2) // 4**2


def padded_rows(rows: int, most: int) -> int:
    """How many images `rows` of them are padded to, so that few numbers occur: powers of two, the
    middles between them (1, 2, 3, 4, 6, 8, 12, ...) and `most`; `rows` itself beyond `most`."""
    step = 1 << max(0, (rows - 1).bit_length() - 2)
    return max(rows, min(-(-rows // step) * step, most))


class Predictor:
    """A loaded model, or several as one, on a device; has answered once already.

    `device` is "cpu", "cuda" or "cuda:1"; by default the GPU where there is one. Raises UserError
    where there is no such device, and where the models do not fit together, or compute something
    else here than they did where they were published.

    All is computed in float32, but on a GPU the convolutions round what they multiply to TF32, ten
    bits after the point, unless `torch.backends.cudnn.allow_tf32` is False, as it is in the server.
    A model whose probabilities of the built-in test image are further from those recorded than
    `golden` allows is refused.
    """

    def __init__(self, checkpoints: Sequence[Checkpoint], device: str | None = None) -> None:
        self.device = default_device() if device is None else _device(device)
        self.pads = self.device.type == "cuda"
        """Whether batches are padded: CUDA's libraries plan anew for each number of images."""
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
                None
                if checkpoint.whole_mean_3SS is None
                else checkpoint.whole_mean_3SS.to(self.device),
            )
            for checkpoint in checkpoints
        ]
        self.network: AlexNet
        self.mean_3HW: Tensor
        self.network, self.mean_3HW, _ = self._members[0]
        for (model, mean_3HW, _), about in zip(self._members, self.abouts, strict=True):
            golden.check(model, mean_3HW, about.size, about.golden)
        size = self.about.size
        self.classify(torch.zeros(1, 3, size, size, dtype=torch.uint8), views=10)

    @property
    def crop(self) -> int:
        """Rows and columns of the first member's views."""
        return self.mean_3HW.shape[-1]

    @property
    def calibrated(self) -> tuple[int, ...]:
        """The numbers of views, of 1 and 10, for which each member is calibrated."""
        return tuple(v for v in (1, 10) if all(about.calibration(v) for about in self.abouts))

    def min_probability(self, views: int) -> float | None:
        """The least probability of an answer that was published with the model; None where none
        was for so many views, or several models answer together."""
        return self.about.min_probability(views) if len(self.abouts) == 1 else None

    @property
    def device_name(self) -> str:
        """`cpu`, or a GPU as CUDA names it: `cuda: NVIDIA H100 80GB HBM3`."""
        if self.device.type == "cpu":
            return "cpu"
        return f"{self.device.type}: {torch.cuda.get_device_name(self.device)}"

    def warm(self) -> None:
        """Answer every number of images that padding leaves, in the thread that calls.

        CUDA's libraries plan their work when a thread first meets a number. Without padding nothing
        is done.
        """
        for views in (10, 1) if self.pads else ():
            most, size = self._most(views), self.about.size
            image_N3SS = torch.zeros(most, 3, size, size, dtype=torch.uint8)
            # The largest first: the others find room in its memory.
            for rows in sorted({padded_rows(n + 1, most) for n in range(most)}, reverse=True):
                with suppress(torch.OutOfMemoryError):  # who asks for so many deals with it
                    self.classify(image_N3SS[:rows], views)

    @torch.inference_mode()
    def classify(self, image_N3SS: Tensor, views: int) -> Tensor:
        """(N, 3, S, S) uint8 -> (N, V, K) float32 on the CPU, of 1 or 10 views (§4.1), by each
        member's temperature where it is calibrated."""
        image_M3SS = self._uploaded(image_N3SS, views)
        member_MNVK = [
            view_probabilities(
                model, image_M3SS, mean_3HW, views, whole_mean_3SS, about.temperature(views)
            )
            for (model, mean_3HW, whole_mean_3SS), about in zip(
                self._members, self.abouts, strict=True
            )
        ]
        return self._downloaded(torch.stack(member_MNVK).mean(dim=0)[: len(image_N3SS)])

    def features(self, image_N3SS: Tensor) -> Tensor:
        """The first member's last hidden layer, of the centre view: (N, 3, S, S) -> (N, H)."""
        image_M3SS = self._uploaded(image_N3SS, views=1)
        feature_MH = centre_features(self.network, image_M3SS, self.mean_3HW)
        return self._downloaded(feature_MH[: len(image_N3SS)])

    def _uploaded(self, image_N3SS: Tensor, views: int) -> Tensor:
        """The images on the device, with black ones after them where there is padding."""
        rows = len(image_N3SS)
        if self.device.type == "cuda":  # from other memory a copy would hold up the thread
            image_N3SS = image_N3SS.pin_memory()
        image_N3SS = image_N3SS.to(self.device, non_blocking=True)
        black = padded_rows(rows, self._most(views)) - rows if self.pads else 0
        return pad(image_N3SS, (0,) * 7 + (black,)) if black else image_N3SS

    def _downloaded(self, answer: Tensor) -> Tensor:
        answer = answer.to("cpu", non_blocking=True)
        if self.device.type == "cuda":  # the one wait of a batch
            torch.cuda.current_stream(self.device).synchronize()
        return answer

    def _most(self, views: int) -> int:
        """Images of one forward pass."""
        return BATCH_VIEWS[self.device.type] // views


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
