"""Pictures to a model that takes many at once, from requests that bring one each.

A batch forms from what has queued up while the last one ran: nobody waits for a timer. The queue is
bounded; what its sender no longer waits for leaves it.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from serving import metrics
from serving.errors import RefusedError

VIEWS = 10
"""Views of one picture (§4.1), the unit that the queue counts in."""
SMOOTHING = 0.2
"""Weight of the latest batch in the mean time of a view."""


@dataclass(eq=False)
class _Work:
    function: Callable[..., Tensor]
    arguments: tuple
    picture_3HW: Tensor
    views: int
    answer: asyncio.Future[Tensor]
    queued_at: float


class Batcher:
    """A queue in front of `lanes` threads, each of which runs one batch at a time.

    Batches are cut at `batch_views`; the queue holds up to `capacity_views`, those under way
    included.
    """

    def __init__(self, lanes: int, threads: int, batch_views: int, capacity_views: int) -> None:
        self._lanes, self._threads = lanes, threads
        self._batch_views, self._capacity_views = batch_views, capacity_views
        self._queue: deque[_Work] = deque()
        self._held_views = 0
        self._view_s = 0.0
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Answer until cancelled."""
        with ThreadPoolExecutor(
            self._lanes, "model", torch.set_num_threads, (self._threads,)
        ) as executor:
            async with asyncio.TaskGroup() as lanes:
                for _ in range(self._lanes):
                    lanes.create_task(self._lane(executor))

    def check_room(self) -> None:
        """Raises RefusedError with 429 where not even one more view would be taken."""
        self._refuse_beyond(1)

    @contextmanager
    def room(self, views: int) -> Iterator[None]:
        """Places in the queue for as long as the block takes. Raises RefusedError with 429."""
        views = min(views, self._capacity_views)  # what is larger has the queue to itself
        self._refuse_beyond(views)
        self._held_views += views
        metrics.QUEUE_VIEWS.inc(views)
        try:
            yield
        finally:
            self._held_views -= views
            metrics.QUEUE_VIEWS.dec(views)

    async def __call__(
        self, function: Callable[..., Tensor], picture_3HW: Tensor, views: int, *arguments: object
    ) -> Tensor:
        """`function` of a batch (N, 3, H, W) with this picture in it; this picture's row of it.

        `views` is what it costs. Works with the same function and arguments share a batch.
        """
        answer = asyncio.get_running_loop().create_future()
        work = _Work(function, arguments, picture_3HW, views, answer, time.perf_counter())
        self._queue.append(work)
        self._arrived.set()
        try:
            return await answer
        finally:
            if work in self._queue:  # its sender has gone
                self._queue.remove(work)

    def _refuse_beyond(self, views: int) -> None:
        if (would_be := self._held_views + views) <= self._capacity_views:
            return
        seconds = max(1, math.ceil(self._held_views * self._view_s / self._lanes))
        raise RefusedError(
            429, "queue-full", f"the queue is full; try again in {seconds} s",
            limit=self._capacity_views / VIEWS, seen=would_be / VIEWS,
            setting="SERVING_QUEUE_PICTURES", retry_after_s=seconds,
        )  # fmt: skip

    async def _lane(self, executor: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            batch = self._take()
            views = sum(work.views for work in batch)
            metrics.BATCH_VIEWS.observe(views)
            started = time.perf_counter()
            try:
                rows = await loop.run_in_executor(executor, _run, batch)
            except Exception as error:
                for work in batch:
                    if not work.answer.done():
                        work.answer.set_exception(error)
                continue
            took_s = time.perf_counter() - started
            self._view_s += (SMOOTHING if self._view_s else 1) * (took_s / views - self._view_s)
            metrics.STAGE_SECONDS.labels("model").observe(took_s)
            for work, row in zip(batch, rows, strict=True):
                metrics.STAGE_SECONDS.labels("queue").observe(started - work.queued_at)
                if not work.answer.done():
                    work.answer.set_result(row)

    def _take(self) -> list[_Work]:
        """The oldest, and what can run with it, as far as it fits into a batch."""
        first, views = self._queue[0], 0
        batch: list[_Work] = []
        for work in self._queue:
            alike = work.function == first.function and work.arguments == first.arguments
            if alike and (not batch or views + work.views <= self._batch_views):
                batch.append(work)
                views += work.views
        for work in batch:
            self._queue.remove(work)
        return batch


def _run(batch: list[_Work]) -> Tensor:
    picture_N3HW = torch.stack([work.picture_3HW for work in batch])
    return batch[0].function(picture_N3HW, *batch[0].arguments)
