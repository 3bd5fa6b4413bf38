"""Images to a model that takes many at once, from requests that bring one each.

A batch forms from what has queued up while the last one ran: nobody waits for a timer. The queue is
bounded and fair to clients; what its sender no longer waits for leaves it.
"""

import asyncio
import logging
import math
import sys
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from alexnet.predictor import default_device
from serving import metrics
from serving.fair_queue import FairQueue
from serving.room import NoRoomError, Room

VIEWS = 10
"""Views of one image (§4.1), the unit that the queue counts in."""
SHARE = 1 / 2
"""Part of a batch that is run at once where several clients wait: who has the next turn waits less
for it."""
SWITCH_S = 0.0005
"""Time after which a thread that runs Python lets others do so. A pass waits for its turn after
each of its operations: beside a thread that is always busy, Python's own 0.005 s made passes of
0.2 s take up to 3 s, this 0.6 s."""
SMOOTHING = 0.2
"""Weight of the latest batch in the mean time of a view."""

log = logging.getLogger("serving")


class QueueFullError(Exception):
    """More views than the queue holds: all would be `seen_views`. There may be room in `retry_s`
    seconds."""

    def __init__(self, limit_views: int, seen_views: int, retry_s: int) -> None:
        super().__init__(f"{seen_views} views; the queue holds {limit_views}")
        self.limit_views, self.seen_views, self.retry_s = limit_views, seen_views, retry_s


@dataclass(eq=False)
class _Entry:
    """One image in the queue, and what is to be computed of it."""

    function: Callable[..., Tensor]
    arguments: tuple
    image_3HW: Tensor
    views: int
    answer: asyncio.Future[Tensor]
    queued_at: float


class Batcher:
    """A queue in front of `lanes` threads, each of which runs one batch at a time.

    Batches are cut at `batch_views`; the queue holds up to `capacity_views`, those under way
    included.
    """

    def __init__(self, lanes: int, threads: int, batch_views: int, capacity_views: int) -> None:
        self._lanes = [ThreadPoolExecutor(1, "model", _begin, (threads,)) for _ in range(lanes)]
        self._batch_views = batch_views
        self._room = Room(capacity_views, gauge=metrics.QUEUE_VIEWS)
        self._queue: FairQueue[_Entry] = FairQueue()
        self._view_s = 0.0
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Answer until cancelled."""
        with ExitStack() as stack:
            async with asyncio.TaskGroup() as lanes:
                for thread in self._lanes:
                    lanes.create_task(self._lane(stack.enter_context(thread)))

    async def in_each_lane(self, function: Callable[[], None]) -> None:
        """Run `function` in every thread, each after the batch that it has under way."""
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(lane, function) for lane in self._lanes))

    def charge(self, client: Hashable, seconds: float) -> None:
        """What is answered for the client has taken so long elsewhere: its turns come later by the
        views that could have been run meanwhile."""
        if self._view_s:
            self._queue.charge(client, seconds / self._view_s)

    def check_room(self, client: Hashable) -> None:
        """Refuse, with QueueFullError, where the client would not be given one more view."""
        with self._refusals():
            self._room.check(client, 1)

    @contextmanager
    def room(self, client: Hashable, views: int) -> Iterator[None]:
        """Places in the queue for as long as the block takes. Raises QueueFullError, also within
        the block: where the client holds more than another, which needs them."""
        views = min(views, self._room.capacity)  # what is larger has the queue to itself
        with self._refusals(), self._room.hold(client, views):
            yield

    async def __call__(
        self,
        function: Callable[..., Tensor],
        image_3HW: Tensor,
        client: Hashable,
        views: int,
        *arguments: object,
    ) -> Tensor:
        """`function` of a batch (N, 3, H, W) with this image in it; this image's row of it.

        `views` is what it costs. Entries with the same function and arguments share a batch.
        """
        answer = asyncio.get_running_loop().create_future()
        entry = _Entry(function, arguments, image_3HW, views, answer, time.perf_counter())
        self._queue.put(entry, client, views)
        self._arrived.set()
        try:
            return await answer
        finally:
            self._queue.drop(entry)  # if its sender has gone

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except NoRoomError as error:
            wait_s = self._room.held * self._view_s / len(self._lanes)
            retry_s = max(1, math.ceil(wait_s))
            raise QueueFullError(error.limit, error.seen, retry_s) from None

    async def _lane(self, thread: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._queue:
                self._arrived.clear()
                await self._arrived.wait()
            batch = self._take()
            views = sum(entry.views for entry in batch)
            metrics.BATCH_VIEWS.observe(views)
            started = time.perf_counter()
            try:
                rows = await loop.run_in_executor(thread, _run, batch)
            except Exception as error:
                if isinstance(error, torch.OutOfMemoryError):
                    error.__traceback__ = None  # its frames hold tensors of the failed batch
                    log.error(
                        "the GPU has no memory left, even for half a batch; nvidia-smi lists what "
                        "holds it: end other processes there, or lower SERVING_WORKERS (a shorter "
                        "queue does not help)"
                    )
                for entry in batch:
                    if not entry.answer.done():
                        entry.answer.set_exception(error)
                continue
            took_s = time.perf_counter() - started
            self._view_s += (SMOOTHING if self._view_s else 1) * (took_s / views - self._view_s)
            metrics.STAGE_SECONDS.labels("model").observe(took_s)
            for entry, row in zip(batch, rows, strict=True):
                metrics.STAGE_SECONDS.labels("queue").observe(started - entry.queued_at)
                if not entry.answer.done():
                    entry.answer.set_result(row)

    def _take(self) -> list[_Entry]:
        """The next in turn, and what can run with it, as far as it fits into a batch."""
        most = self._batch_views * (SHARE if self._queue.is_shared else 1)
        first, *_ = waiting = self._queue.abreast(most)
        views = 0
        batch: list[_Entry] = []
        for entry in waiting:
            alike = entry.function == first.function and entry.arguments == first.arguments
            if alike and (not batch or views + entry.views <= most):
                batch.append(entry)
                views += entry.views
        for entry in batch:
            self._queue.take(entry)
        return batch


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)
    sys.setswitchinterval(SWITCH_S)
    if default_device().type == "cuda":  # or else the lanes would wait for each other's work
        torch.cuda.set_stream(torch.cuda.Stream())


def _run(batch: list[_Entry]) -> Tensor:
    """Answer a batch, in two halves where the GPU has no memory for all of it. Raises
    torch.OutOfMemoryError where it has none even for a half."""
    try:
        return _answered(batch)
    except torch.OutOfMemoryError:
        log.warning("the GPU has no memory left for a batch; trying its halves")
    torch.cuda.empty_cache()  # only here: until its handler ends, the error holds tensors
    half = -(-len(batch) // 2)
    return torch.cat([_answered(part) for part in (batch[:half], batch[half:]) if part])


def _answered(batch: list[_Entry]) -> Tensor:
    image_N3HW = torch.stack([entry.image_3HW for entry in batch])
    return batch[0].function(image_N3HW, *batch[0].arguments)
