"""What models answer about images, by any number of Ray tasks.

Each task answers for its shard's images and scores nothing: what is counted is a function of the
assembled probabilities, however many tasks there were.

Shapes: M models, V of 1 and 10 views, N images, K classes, S rows and columns of an image.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from alexnet.command import UserError
from alexnet.store.models import load
from alexnet.store.url import Place
from alexnet.views import CENTRE, view_logits
from pipeline.batches import Decoding, whole_batches
from pipeline.dataset import Dataset
from pipeline.order import Shard
from pipeline.progress import ProgressBar
from trainer.evaluation.validation import IMAGES
from trainer.loop.precision import autocast, resolve_precision
from trainer.on_ray.workers import Workers


class Refused(NamedTuple):
    """A file that is no image we can use."""

    sample: int
    file: str
    reason: str


class Decoded(NamedTuple):
    """The images that a worker takes at once, without padding."""

    image_N3SS: Tensor
    """uint8."""
    sample_N: np.ndarray
    """int64, index among all images."""
    refused: tuple[Refused, ...] = ()
    """What else should have been among them."""


class Part(NamedTuple):
    """Answers about `Decoded` images."""

    probability_MVNK: np.ndarray
    """float32; the logits of every view, where these are asked for."""
    sample_N: np.ndarray
    refused: tuple[Refused, ...]


class Answers(NamedTuple):
    """The answers about all images, as in their parts; rows of refused ones are not a number."""

    probability_MVNK: Tensor
    refused: tuple[Refused, ...]
    """The refused images in order of their samples."""


class EvaluationImages(Protocol):
    """Images to be asked about. Small, so that they travel to every task."""

    served: ClassVar[bool]
    """Whether a network computes in float32, as in the server, or as in training."""

    def __len__(self) -> int: ...

    def names(self) -> list[str]:
        """What each is called."""

    def batches(self, shard: Shard, rows: int, threads: int) -> Iterator[Decoded]:
        """This shard's images, up to `rows` at once; which ones are together depends on `rows`
        alone."""


@dataclass(frozen=True)
class Validation:
    """The validation images of a packed dataset, decoded by DALI."""

    served: ClassVar[bool] = False
    place: Place

    def __len__(self) -> int:
        return len(Dataset(self.place).val)

    def names(self) -> list[str]:
        val = Dataset(self.place).val
        return val.names(np.arange(len(val)))

    def batches(self, shard: Shard, rows: int, threads: int) -> Iterator[Decoded]:
        """This shard's images, decoded by DALI. Raises DatasetError where one cannot be."""
        decoding, batch = Decoding(threads), shard.count * rows
        for part in whole_batches(Dataset(self.place), "val", shard, decoding, batch=batch):
            yield Decoded(part.image_NCHW[part.real_N], part.sample_N[part.real_N].cpu().numpy())


class Network:
    """One model on a device, for one or ten views or both by a single forward pass."""

    def __init__(self, directory: Place, device: torch.device, served: bool) -> None:
        loaded = load(directory)
        self._model = loaded.model.to(  # type: ignore[call-overload]
            device, memory_format=torch.channels_last
        )
        self._mean_3HW, self._device = loaded.mean_3HW.to(device), device
        self._whole_mean_3SS = (
            None if loaded.whole_mean_3SS is None else loaded.whole_mean_3SS.to(device)
        )
        self._about = loaded.about
        trained_in = loaded.about.recipe.get("precision", "auto")
        self._precision = "fp32" if served else resolve_precision(trained_in, device)

    @torch.inference_mode()
    def __call__(self, image_N3SS: Tensor, views: Sequence[int]) -> np.ndarray:
        """(N, 3, S, S) uint8 -> (V, N, K) float32."""
        most = max(views)
        logit_NVK = self._logits(image_N3SS, most)
        centre = CENTRE if most == 10 else 0
        answers = []
        for count in views:
            logits = logit_NVK[:, centre, None] if count == 1 else logit_NVK
            answers.append((logits / self._about.temperature(count)).softmax(dim=2).mean(dim=1))
        return torch.stack(answers).cpu().numpy()

    @torch.inference_mode()
    def logits(self, image_N3SS: Tensor, views: Sequence[int]) -> np.ndarray:
        """Of each of the most views: (N, 3, S, S) uint8 -> (V, N, K) float32."""
        return self._logits(image_N3SS, max(views)).transpose(0, 1).cpu().numpy()

    def _logits(self, image_N3SS: Tensor, views: int) -> Tensor:
        with autocast(self._precision, self._device):
            return view_logits(
                self._model,
                image_N3SS.to(self._device),
                self._mean_3HW,
                views,
                self._whole_mean_3SS,
            )


def answers(
    images: EvaluationImages,
    models: Sequence[Place],
    views: Sequence[int],
    shard: Shard,
    threads: int,
    logits: bool = False,
) -> Iterator[Part]:
    """This shard's part of the answers, or of the logits of every view; each image is decoded once
    for all models and views."""
    device = torch.device("cpu" if shard.device_id is None else f"cuda:{shard.device_id}")
    networks = [Network(directory, device, images.served) for directory in models]
    rows = IMAGES[device.type][max(views)]
    for image_N3SS, sample_N, refused in images.batches(shard, rows, threads):
        if len(sample_N):
            probability = np.stack(
                [(n.logits if logits else n)(image_N3SS, views) for n in networks]
            )
            yield Part(probability, sample_N, refused)
        elif refused:
            yield Part(np.empty((len(models), len(views), 0, 0), np.float32), sample_N, refused)


def assemble(parts: Iterable[Part], samples: int, classes: int, models: int, views: int) -> Answers:
    """Every part in its place. Raises RuntimeError unless every sample came exactly once."""
    probability_MVNK = np.full((models, views, samples, classes), np.nan, np.float32)
    times_N = np.zeros(samples, np.int64)
    refused: list[Refused] = []
    for part in parts:
        np.add.at(times_N, part.sample_N, 1)
        np.add.at(times_N, [row.sample for row in part.refused], 1)
        refused += part.refused
        if len(part.sample_N):
            probability_MVNK[:, :, part.sample_N] = part.probability_MVNK
    if (odd_N := np.flatnonzero(times_N != 1)).size:
        raise RuntimeError(f"sample {odd_N[0]} came {times_N[odd_N[0]]} times")
    return Answers(torch.from_numpy(probability_MVNK), tuple(sorted(refused)))


def ask(
    images: EvaluationImages,
    models: Sequence[Place],
    views: Sequence[int],
    workers: Workers,
    logits: bool = False,
) -> Iterator[Part]:
    """The parts of all shards, one task a worker, as they come; within a `cluster`."""
    import ray

    # No more tasks than there are batches.
    rows = IMAGES["cuda" if workers.gpu else "cpu"][max(views)]
    count = min(workers.count, -(-len(images) // rows))
    task = ray.remote(num_cpus=workers.threads, num_gpus=int(workers.gpu), num_returns="streaming")(
        _task
    )
    running = [
        task.remote(
            workers.threads,
            images,
            models,
            views,
            Shard(n, count, 0 if workers.gpu else None),
            workers.threads,
            logits,
        )
        for n in range(count)
    ]
    what = "evaluate originals" if images.served else "evaluate packed images"
    with ProgressBar(what, len(images), "images") as progress:
        while running:
            (ready,), _ = ray.wait(running)
            try:
                part = ray.get(next(ready))
            except StopIteration:
                running.remove(ready)
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"a process that evaluates died ({error}); if memory ran out, lower --workers"
                ) from None
            yield part
            progress.advance(len(part.sample_N) + len(part.refused))


def _task(threads: int, *arguments: Any) -> Iterator[Part]:
    torch.set_num_threads(threads)
    yield from answers(*arguments)
