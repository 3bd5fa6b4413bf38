"""What is done with pictures, between HTTP on one side and the model on the other."""

import asyncio
import logging
import time
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from alexnet.guess import Guess, guesses
from alexnet.pixels import PictureError
from alexnet.predictor import BATCH_VIEWS, default_device
from alexnet.views import five_places, one_place
from serving import metrics
from serving.batcher import VIEWS, Batcher
from serving.decoder import Decoder
from serving.errors import RefusedError, of_picture
from serving.keys import Keys
from serving.models import Models, Served
from serving.neighbours import Neighbours
from serving.occlusion import PATCHES, occlusion
from serving.pictures import overlay
from serving.schemas import Neighbour, Result, Vote
from serving.settings import Settings

log = logging.getLogger("serving")


class Views(IntEnum):
    ONE = 1
    TEN = 10


class Service:
    """Answers of the served model. Raises UserError where the keys cannot be read."""

    def __init__(self, settings: Settings, models: Models) -> None:
        self.settings, self.models = settings, models
        self.keys = Keys(settings.keys) if settings.keys else None
        self.draining = False
        """What still comes is answered, but nobody should send more."""
        self.tasks: list[asyncio.Task[None]] = []
        """What runs beside requests, for as long as the server lives."""
        kind = default_device().type
        self.batcher = Batcher(
            lanes=settings.lanes if kind == "cpu" else 1,
            threads=settings.pass_threads,
            batch_views=BATCH_VIEWS[kind],
            capacity_views=VIEWS * settings.queue_pictures,
        )
        self.decoder = Decoder(
            settings.decoders or settings.cores,
            settings.formats,
            settings.limits,
            settings.decode_s,
        )

    def served(self) -> Served:
        """The model that answers now. Raises RefusedError with 503."""
        if self.models.served is None:
            reason = self.models.failed or "the model is being loaded"
            raise RefusedError(503, "not-ready", f"not ready: {reason}", retry_after_s=2)
        return self.models.served

    def alive(self) -> bool:
        """Whether the model's queue and the watch for new models still run."""
        for task in self.tasks:
            if task.done():
                log.critical(
                    "a background task of the server has failed", exc_info=task.exception()
                )
        return not any(task.done() for task in self.tasks)

    async def classify(
        self, served: Served, files: list[bytes], views: Views, top_k: int, votes: bool
    ) -> list[Result]:
        """One result for each file, in order; a bad picture's is its problem.

        Raises RefusedError where the queue has no room for all.
        """
        with self.batcher.room(views * len(files)):
            found = await asyncio.gather(*(self._vote(served, data, views) for data in files))
        metrics.PICTURES.labels("/classify").inc(sum(isinstance(vote, Tensor) for vote in found))
        about, crop = served.predictor.about, served.predictor.crop
        places = (one_place if views == Views.ONE else five_places)(about.size, crop)
        twins = [(place, False) for place in places] + [(place, True) for place in places]
        results = []
        for index, vote_VK in enumerate(found):
            if isinstance(vote_VK, RefusedError):
                results.append(Result(index=index, problem=vote_VK.problem))
                continue
            result = Result(index=index, guesses=guesses(vote_VK.mean(0), about.classes, top_k))
            if votes:
                result.votes = [
                    Vote(
                        left=x / about.size,
                        top=y / about.size,
                        side=crop / about.size,
                        mirrored=mirrored,
                        guesses=guesses(probability_K, about.classes, top_k),
                    )
                    for probability_K, ((y, x), mirrored) in zip(vote_VK, twins, strict=False)
                ]
            results.append(result)
        return results

    async def similar(
        self, served: Served, neighbours: Neighbours, data: bytes, count: int
    ) -> list[Neighbour]:
        """The `count` nearest training pictures. Raises RefusedError, PictureError."""
        with self.batcher.room(1):
            picture_3SS = _tensor(await self._picture(served, data))
            feature_H = await self.batcher(served.predictor.features, picture_3SS, 1)
            found = await asyncio.to_thread(neighbours.nearest, feature_H[None].numpy(), count)
        metrics.PICTURES.labels("/similar").inc()
        classes = served.predictor.about.classes
        answer = []
        for distance, picture in zip(found[0][0].tolist(), found[1][0].tolist(), strict=True):
            if picture < 0:  # an index of lists found fewer
                break
            of = classes[neighbours.label(picture)]
            path = f"/thumbnails/{picture}"
            answer.append(Neighbour(id=of.id, label=of.name, distance=distance, thumbnail=path))
        return answer

    async def explain(self, served: Served, data: bytes, id: str | None) -> tuple[bytes, Guess]:
        """An occlusion map over the picture (PNG), and the label that it is for.

        Raises RefusedError where no class has that id, PictureError.
        """
        classes = served.predictor.about.classes
        labels = [label for label, known in enumerate(classes) if known.id == id]
        if id is not None and not labels:
            raise RefusedError(
                422,
                "bad-parameter",
                f"label: the model has no class {id[:80]!r}; GET /info lists its classes",
            )
        cost = PATCHES**2 + 1
        with self.batcher.room(VIEWS + cost):
            picture_SS3 = await self._picture(served, data)
            picture_3SS = _tensor(picture_SS3)
            vote_VK = await self.batcher(served.predictor.classify, picture_3SS, VIEWS, VIEWS)
            probability_K = vote_VK.mean(dim=0)
            label = labels[0] if labels else int(probability_K.argmax())
            map_HW = await self.batcher(occlusion, picture_3SS, cost, served.predictor, label)
        metrics.PICTURES.labels("/explain").inc()
        png = await asyncio.to_thread(overlay, picture_SS3, map_HW)
        of, probability = classes[label], float(probability_K[label])
        return png, Guess(id=of.id, label=of.name, probability=probability)

    async def _vote(self, served: Served, data: bytes, views: Views) -> Tensor | RefusedError:
        """(V, K), or why there is none: one bad picture spoils nothing for the others."""
        try:
            picture_3SS = _tensor(await self._picture(served, data))
        except PictureError as error:
            return of_picture(error)
        return await self.batcher(served.predictor.classify, picture_3SS, views, int(views))

    async def _picture(self, served: Served, data: bytes) -> np.ndarray:
        started = time.perf_counter()
        about = served.predictor.about
        picture_SS3 = await self.decoder(data, about.size, about.rule)
        metrics.STAGE_SECONDS.labels("decode").observe(time.perf_counter() - started)
        return picture_SS3


def _tensor(picture_SS3: np.ndarray) -> Tensor:
    return torch.from_numpy(picture_SS3).permute(2, 0, 1)
