"""What is done with images, between HTTP on one side and the model on the other."""

import asyncio
import logging
import time
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from alexnet import golden
from alexnet.command import UserError
from alexnet.guess import guesses
from alexnet.pixels import ImageError
from alexnet.predictor import BATCH_VIEWS, default_device
from serving import metrics
from serving.batcher import VIEWS, Batcher
from serving.budget import Budget
from serving.decoder import USUAL_PIXELS, Decoder
from serving.keys import Keys
from serving.models import Models, Served
from serving.neighbours import Neighbours
from serving.occlusion import PATCHES, occlusion
from serving.room import Room
from serving.settings import Settings
from serving.visualization import overlay

QUEUE_PICTURES = {"cpu": 64, "cuda": 512}
"""Images that may wait for an answer where the settings leave it open."""
NEAREST = 50
"""Similar images that a model finds for the test image before it answers: as many as can be asked
for."""
GPU_LANES = 2
"""One gathers and uploads its batch while the GPU computes the other's."""

log = logging.getLogger("serving")


class RequestTooLargeError(Exception):
    """A request whose images have more pixels than are allowed together."""

    def __init__(self, limit: int, seen: int) -> None:
        super().__init__(f"the images have {seen:,} pixels together; the limit is {limit:,}")
        self.limit, self.seen = limit, seen


class Views(IntEnum):
    ONE = 1
    TEN = 10


class Service:
    """Answers of the served model. Raises UserError where the keys cannot be read.

    Every answer raises QueueFullError where the queue has no room for all of it, NoRoomError where
    there is none for its pixels, and RequestTooLargeError. `client` is who asks: what there is, is
    shared by clients.
    """

    def __init__(self, settings: Settings, models: Models) -> None:
        self.settings, self.models = settings, models
        self.keys = Keys(settings.keys) if settings.keys else None
        self.draining = False
        """What still comes is answered, but nobody should send more."""
        self.tasks: list[asyncio.Task[None]] = []
        """What runs beside requests, for as long as the server lives."""
        kind = default_device().type
        self.queue_pictures = settings.queue_pictures or max(
            QUEUE_PICTURES[kind], settings.max_files
        )
        """Images that may wait for an answer; those of the largest request always fit."""
        self.batcher = Batcher(
            lanes=settings.lanes if kind == "cpu" else GPU_LANES,
            threads=settings.pass_threads,
            batch_views=BATCH_VIEWS[kind],
            capacity_views=VIEWS * self.queue_pictures,
        )
        self.budget = models.budget = Budget(settings)
        models.passes, models.prepare = settings.lanes, self._prepare
        self.bodies = Room(self.budget.bodies(()), "too many uploads are arriving at once")
        self.pixels = Room(
            max(self.queue_pictures * USUAL_PIXELS, settings.pixels_of_request),
            "too many large images are waiting",
        )
        """Of images that wait or are being decoded, as their files declare them."""
        self.decoder = Decoder(settings, self.budget.decoding(()), self.batcher.charge)

    def alive(self) -> bool:
        """Whether the model's queue and the watch for new models still run."""
        for task in self.tasks:
            if task.done():
                log.critical(
                    "a background task of the server has failed", exc_info=task.exception()
                )
        return not any(task.done() for task in self.tasks)

    async def _prepare(self, served: Served) -> None:
        await self._rehearse(served)
        abouts = served.predictor.abouts
        self.bodies.capacity = self.budget.bodies(abouts)
        self.decoder.turns.memory_bytes = self.budget.decoding(abouts)

    async def _rehearse(self, served: Served) -> None:
        """Have a model answer about the built-in test image as it will be asked to. Raises what
        would else be answered with 500."""
        await self.batcher.in_each_lane(served.predictor.warm)
        about = served.predictor.about
        image_3SS = _tensor(await asyncio.to_thread(golden.image, about.size))
        for views in Views:
            vote_VK = await self.batcher(
                served.predictor.classify, image_3SS, None, views, int(views)
            )
            if not torch.isfinite(vote_VK).all():
                raise UserError(
                    f"{about.name}: its probabilities for the built-in test image by {views:d} "
                    "views are not finite numbers; publish an earlier checkpoint"
                )
            guesses(vote_VK.mean(dim=0), about.classes, len(about.classes))
        if neighbours := served.neighbours:
            feature_H = await self.batcher(served.predictor.features, image_3SS, None, 1)
            found = await asyncio.to_thread(neighbours.nearest, feature_H[None].numpy(), NEAREST)
            for number in found[1][0].tolist():
                if number >= 0:
                    neighbours.label(number), neighbours.thumbnail(number)

    async def classify(
        self, served: Served, files: list[bytes], views: Views, client: Hashable
    ) -> list[Tensor | ImageError]:
        """The probabilities of each file by each view, (V, K), or why it is no image to us: one bad
        file spoils nothing for the others."""

        async def vote(data: bytes) -> Tensor:
            image_3SS = _tensor(await self._image(served, data, client))
            return await self.batcher(
                served.predictor.classify, image_3SS, client, views, int(views)
            )

        with self.batcher.room(client, views * len(files)), self._pixels(files, client):
            # Where one fails the others still run, and hold their places until they have ended.
            found = await asyncio.gather(*map(vote, files), return_exceptions=True)
        votes = []
        for result in found:
            if isinstance(result, BaseException) and not isinstance(result, ImageError):
                raise result
            votes.append(result)
        metrics.IMAGES.labels("/classify").inc(sum(isinstance(vote, Tensor) for vote in votes))
        return votes

    async def similar(
        self, served: Served, neighbours: Neighbours, data: bytes, count: int, client: Hashable
    ) -> list[tuple[float, int]]:
        """(Distance, number) of the `count` nearest training images, or of fewer where an index of
        lists found no more. Raises ImageError."""
        with self.batcher.room(client, 1), self._pixels([data], client):
            image_3SS = _tensor(await self._image(served, data, client))
            feature_H = await self.batcher(served.predictor.features, image_3SS, client, 1)
            found = await asyncio.to_thread(neighbours.nearest, feature_H[None].numpy(), count)
        metrics.IMAGES.labels("/similar").inc()
        distances, numbers = (part[0].tolist() for part in found)
        return [pair for pair in zip(distances, numbers, strict=True) if pair[1] >= 0]

    async def explain(
        self, served: Served, data: bytes, label: int | None, client: Hashable
    ) -> tuple[bytes, int, float]:
        """An occlusion map over the image (PNG), the label that it is for, by default the most
        probable one, and that label's probability. Raises ImageError."""
        cost = PATCHES**2 + 1
        with self.batcher.room(client, VIEWS + cost), self._pixels([data], client):
            image_SS3 = await self._image(served, data, client)
            image_3SS = _tensor(image_SS3)
            vote_VK = await self.batcher(served.predictor.classify, image_3SS, client, VIEWS, VIEWS)
            probability_K = vote_VK.mean(dim=0)
            label = int(probability_K.argmax()) if label is None else label
            map_HW = await self.batcher(occlusion, image_3SS, client, cost, served.predictor, label)
        metrics.IMAGES.labels("/explain").inc()
        png = await asyncio.to_thread(overlay, image_SS3, map_HW)
        return png, label, float(probability_K[label])

    @contextmanager
    def _pixels(self, files: list[bytes], client: Hashable) -> Iterator[None]:
        """Room for what the files declare, but for those that are refused one by one."""
        pixels = 0
        for data in files:
            with suppress(ImageError):
                pixels += self.decoder.pixels(data)
        if pixels > (limit := self.settings.pixels_of_request):
            raise RequestTooLargeError(limit, pixels)
        with self.pixels.hold(client, pixels):
            yield

    async def _image(self, served: Served, data: bytes, client: Hashable) -> np.ndarray:
        started = time.perf_counter()
        about = served.predictor.about
        image_SS3 = await self.decoder(data, about.size, about.rule, client)
        metrics.STAGE_SECONDS.labels("decode").observe(time.perf_counter() - started)
        return image_SS3


def _tensor(image_SS3: np.ndarray) -> Tensor:
    return torch.from_numpy(image_SS3).permute(2, 0, 1)
