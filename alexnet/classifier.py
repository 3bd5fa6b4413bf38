"""A published model as a function of photographs.

Shapes: N photographs, K classes, H hidden units, S rows and columns of a whole image.
"""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from io import IOBase
from pathlib import Path
from typing import cast, overload

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from alexnet.bounds import MAX_BYTES, read_at_most
from alexnet.checkpoint import About
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from alexnet.guess import Guess, guesses, none_of_these
from alexnet.model import AlexNet
from alexnet.pixels import ImageError, whole_image
from alexnet.predictor import BATCH_VIEWS, Predictor
from alexnet.views import centre_input

Photograph = str | os.PathLike[str] | bytes | Image.Image | np.ndarray
"""A file's path or its bytes, an image that Pillow has opened, or an array of uint8: (H, W, 3) in
RGB, (H, W, 4) in RGB and opacity, (H, W) in grey."""

REMEDIES = {
    "empty": "replace it, or leave it out",
    "not-an-image": "convert it, or leave it out",
    "unsupported": "convert it, or leave it out",
    "too-large": "make it smaller, or leave it out",
    "damaged": "replace it, or leave it out",
}
EXPECTED = (
    "expected a path, the bytes of a file, a PIL image, or an array of uint8 in the shape "
    "(H, W, 3) for RGB, (H, W, 4) for RGB and opacity or (H, W) for grey"
)


class PhotographError(UserError):
    """A photograph that cannot be read or is none; the text names it, and a remedy."""


class Classifier:
    """Made by `alexnet.load`. Called with photographs it gives their most probable labels.

    All methods take one photograph or any number of them, in a list or from an iterator, and read
    as many at a time as one forward pass takes: ten thousand paths need no more memory than a few.
    They raise PhotographError at the first that is no photograph.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def __repr__(self) -> str:
        names = "+".join(f"{about.name}, step {about.step}" for about in self._predictor.abouts)
        return f"<Classifier: {names}, {len(self.classes)} classes, {self.device}>"

    @property
    def about(self) -> About:
        """All that was published with the model: training, accuracy, versions."""
        return self._predictor.about

    @property
    def classes(self) -> tuple[ClassLabel, ...]:
        """What each column of `probabilities` means: the class's id and its name."""
        return self.about.classes

    @property
    def calibrated(self) -> tuple[int, ...]:
        """The numbers of views by which probabilities are calibrated: about as large as the share
        of answers that are right (`alexnet evaluate --calibrate`)."""
        return self._predictor.calibrated

    def min_probability(self, views: int = 10) -> float | None:
        """The least probability of an answer that was published with the model, for so many views;
        None where none was, or several models answer together."""
        return self._predictor.min_probability(views)

    @property
    def device(self) -> torch.device:
        return self._predictor.device

    @property
    def network(self) -> AlexNet:
        """A torch.nn.Module, `inputs` -> logits (N, K), in evaluation mode; of several models the
        first's. Its weights take no gradients until `network.requires_grad_()`."""
        return self._predictor.network

    @property
    def mean(self) -> Tensor:
        """(3, crop, crop) float32 from 0 to 255: what the network wants subtracted from a view."""
        return self._predictor.mean_3HW

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self,
        photographs: Photograph,
        *,
        views: int = 10,
        top_k: int = 5,
        min_probability: float = 0,
    ) -> list[Guess]: ...
    @overload
    def __call__(
        self,
        photographs: Iterable[Photograph],
        *,
        views: int = 10,
        top_k: int = 5,
        min_probability: float = 0,
    ) -> list[list[Guess]]: ...
    def __call__(
        self,
        photographs: Photograph | Iterable[Photograph],
        *,
        views: int = 10,
        top_k: int = 5,
        min_probability: float = 0,
    ) -> list[Guess] | list[list[Guess]]:
        """The `top_k` most probable labels of a photograph, best first; of several a list of these.

        `views` is 10, the paper's crops and mirrors (§4.1), or 1, the centre: a tenth of the work.
        Where even the best guess is less probable than `min_probability`, such as
        `self.min_probability(views)`, the list is empty: the photograph shows none of the classes.
        """
        if top_k < 1:
            raise UserError(f"top_k is {top_k}; expected 1 or more")
        if not 0 <= min_probability <= 1:
            raise UserError(f"min_probability is {min_probability}; expected 0 to 1")
        answers = [
            []
            if none_of_these(float(probability_K.max()), min_probability)
            else guesses(probability_K, self.classes, top_k)
            for probability_NK in self._probabilities(photographs, views)
            for probability_K in probability_NK
        ]
        return answers[0] if _is_one(photographs) else answers

    def probabilities(
        self, photographs: Photograph | Iterable[Photograph], *, views: int = 10
    ) -> Tensor:
        """Probabilities of all classes, (N, K) float32 on the CPU; N is 1 for one photograph."""
        nothing = torch.empty(0, len(self.classes))
        return torch.cat([nothing, *self._probabilities(photographs, views)])

    def features(self, photographs: Photograph | Iterable[Photograph]) -> Tensor:
        """The last hidden layer of the centre view, (N, H) float32 on the CPU; H is 4,096 at full
        width. Photographs are alike where their Euclidean distance is small (§6.1, Figure 4)."""
        nothing = torch.empty(0, self.network.fc7.out_features)
        parts = self._images(photographs, views=1)
        return torch.cat([nothing, *map(self._predictor.features, parts)])

    def inputs(self, photographs: Photograph | Iterable[Photograph]) -> Tensor:
        """What `network` takes: the centre view less the mean, (N, 3, crop, crop) float32."""
        nothing = self.mean.new_empty(0, *self.mean.shape)
        parts = self._images(photographs, views=1)
        return torch.cat(
            [nothing, *(centre_input(part.to(self.device), self.mean) for part in parts)]
        )

    def _probabilities(
        self, photographs: Photograph | Iterable[Photograph], views: int
    ) -> Iterator[Tensor]:
        if views not in (1, 10):
            raise UserError(f"views is {views!r}; expected 1 or 10")
        for image_N3SS in self._images(photographs, views):
            yield self._predictor.classify(image_N3SS, views).mean(dim=1)

    def _images(
        self, photographs: Photograph | Iterable[Photograph], views: int
    ) -> Iterator[Tensor]:
        """(N, 3, S, S) uint8, as many at a time as a forward pass of so many views takes."""
        rows = BATCH_VIEWS[self.device.type] // views
        pending: list[Future[np.ndarray]] = []
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            for photograph, name in _named(photographs):
                pending.append(pool.submit(self._image, photograph, name))
                if not isinstance(photograph, str | os.PathLike | bytes):
                    wait(pending[-1:])  # until then it must not become the next frame of a film
                if len(pending) == rows:
                    yield _stacked(pending)
                    pending = []
            if pending:
                yield _stacked(pending)

    def _image(self, photograph: Photograph, name: str) -> np.ndarray:
        about = self.about
        try:
            return whole_image(_content(photograph, name), about.size, rule=about.rule)
        except ImageError as error:
            raise PhotographError(f"{name}: {error}; {REMEDIES[error.kind]}") from None


def _is_one(photographs: object) -> bool:
    """Whether it is one photograph, or something in the place of one that will be refused."""
    single = str | bytes | os.PathLike | Image.Image | np.ndarray | Tensor | IOBase
    return isinstance(photographs, single) or not isinstance(photographs, Iterable)


def _named(
    photographs: Photograph | Iterable[Photograph],
) -> Iterator[tuple[Photograph, str]]:
    """Each with what to call it in a message."""
    one = _is_one(photographs)
    each = cast(Iterable[Photograph], [photographs] if one else photographs)
    for number, photograph in enumerate(each):
        place = "the photograph" if one else f"photographs[{number}]"
        yield photograph, str(photograph) if isinstance(photograph, str | os.PathLike) else place


def _content(photograph: Photograph, name: str) -> bytes | Image.Image:
    if isinstance(photograph, bytes | Image.Image):
        return photograph
    if isinstance(photograph, str | os.PathLike):
        try:
            return read_at_most(Path(photograph), MAX_BYTES)
        except OSError as error:
            raise PhotographError(
                f"{name}: {error.strerror}; give the path of a photograph"
            ) from None
    if not isinstance(photograph, np.ndarray):
        raise PhotographError(f"{name} is a {type(photograph).__name__}; {EXPECTED}")
    shape = photograph.shape
    of_pixels = len(shape) >= 2 and shape[2:] in ((), (3,), (4,)) and 0 not in shape
    if photograph.dtype != np.uint8 or not of_pixels:
        raise PhotographError(
            f"{name} is an array of shape {shape} and dtype {photograph.dtype}; {EXPECTED}"
        )
    return Image.fromarray(photograph)


def _stacked(images: list[Future[np.ndarray]]) -> Tensor:
    image_NSS3 = np.stack([image.result() for image in images])
    return torch.from_numpy(image_NSS3).permute(0, 3, 1, 2)
