"""The queue in front of the model."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from threading import get_ident

import pytest
import torch
from torch import Tensor

from serving.batcher import Batcher, QueueFullError


class Model:
    """Answers with the image's own number; holds every batch until let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, image_N3HW: Tensor, *arguments: object) -> Tensor:
        self.batches.append(image_N3HW[:, 0, 0, 0].tolist())
        assert self.go.wait(120)
        return image_N3HW[:, 0, 0, 0]


def image(number: int) -> Tensor:
    return torch.full((3, 2, 2), number)


def run(test: Callable[[Batcher], Coroutine], lanes: int = 1, capacity_views: int = 1000) -> None:
    async def main() -> None:
        batcher = Batcher(lanes, 1, batch_views=40, capacity_views=capacity_views)
        worker = asyncio.create_task(batcher.run())
        try:
            async with asyncio.timeout(120):
                await test(batcher)
        finally:
            worker.cancel()
            await asyncio.gather(worker, return_exceptions=True)

    asyncio.run(main())


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_a_batch_is_what_queued_while_the_last_one_ran() -> None:
    async def test(batcher: Batcher) -> None:
        model = Model()
        tasks = [asyncio.create_task(batcher(model, image(0), "client", 10))]
        await until(lambda: model.batches)
        tasks += [asyncio.create_task(batcher(model, image(n), "client", 10)) for n in range(1, 7)]
        await asyncio.sleep(0.01)
        model.go.set()
        assert [int(answer) for answer in await asyncio.gather(*tasks)] == list(range(7))
        assert model.batches == [[0], [1, 2, 3, 4], [5, 6]]  # 40 views at most

    run(test)


def test_only_works_alike_share_a_batch_and_none_is_passed_over() -> None:
    async def test(batcher: Batcher) -> None:
        model, other = Model(), Model()
        other.go.set()
        first = asyncio.create_task(batcher(model, image(0), "client", 10))
        await until(lambda: model.batches)
        works = [(model, 1), (other, 2), (model, 3), (other, 4)]
        tasks = [asyncio.create_task(batcher(m, image(n), "client", 10)) for m, n in works]
        tasks += [asyncio.create_task(batcher(model, image(5), "client", 10, "an argument"))]
        await asyncio.sleep(0.01)
        model.go.set()
        assert [int(answer) for answer in await asyncio.gather(first, *tasks)] == list(range(6))
        assert model.batches == [[0], [1, 3], [5]]
        assert other.batches == [[2, 4]]

    run(test)


def test_lanes_run_at_once() -> None:
    async def test(batcher: Batcher) -> None:
        model = Model()
        tasks = [asyncio.create_task(batcher(model, image(n), "client", 40)) for n in range(2)]
        await until(lambda: len(model.batches) == 2)
        model.go.set()
        await asyncio.gather(*tasks)

    run(test, lanes=2)


def test_a_work_larger_than_a_batch_runs_alone() -> None:
    async def test(batcher: Batcher) -> None:
        model = Model()
        model.go.set()
        assert int(await batcher(model, image(3), "client", 101)) == 3

    run(test)


def test_what_nobody_waits_for_leaves_the_queue() -> None:
    async def test(batcher: Batcher) -> None:
        model = Model()
        first = asyncio.create_task(batcher(model, image(0), "client", 10))
        await until(lambda: model.batches)
        gone, stays = (asyncio.create_task(batcher(model, image(n), "client", 10)) for n in (1, 2))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0.01)
        model.go.set()
        await asyncio.gather(first, stays)
        assert model.batches == [[0], [2]]

    run(test)


def test_a_failing_batch_fails_its_own_and_no_other() -> None:
    def broken(image_N3HW: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    async def test(batcher: Batcher) -> None:
        model = Model()
        model.go.set()
        with pytest.raises(RuntimeError, match="out of memory"):
            await batcher(broken, image(1), "client", 10)
        assert int(await batcher(model, image(2), "client", 10)) == 2

    run(test)


def test_a_batch_without_memory_is_tried_once_more_in_halves() -> None:
    async def test(batcher: Batcher) -> None:
        model, sizes = Model(), list[int]()

        def short(image_N3HW: Tensor) -> Tensor:
            sizes.append(len(image_N3HW))
            if len(sizes) == 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return image_N3HW[:, 0, 0, 0]

        first = asyncio.create_task(
            batcher(model, image(9), "client", 10)
        )  # while it runs they queue up
        await until(lambda: model.batches)
        tasks = [asyncio.create_task(batcher(short, image(n), "client", 10)) for n in range(3)]
        await asyncio.sleep(0.01)
        model.go.set()
        assert [int(answer) for answer in await asyncio.gather(first, *tasks)] == [9, 0, 1, 2]
        assert sizes == [3, 2, 1]

    run(test)


def test_where_not_even_half_a_batch_has_memory_the_log_names_the_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def short(image_N3HW: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    async def test(batcher: Batcher) -> None:
        model = Model()
        model.go.set()
        with pytest.raises(torch.OutOfMemoryError):
            await batcher(short, image(1), "client", 10)
        assert int(await batcher(model, image(2), "client", 10)) == 2

    run(test)
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
    assert "nvidia-smi lists what holds it" in caplog.text


def test_a_function_runs_once_in_each_lane_after_its_batch() -> None:
    async def test(batcher: Batcher) -> None:
        model, threads = Model(), list[int]()
        batches = [asyncio.create_task(batcher(model, image(n), "client", 40)) for n in range(2)]
        await until(lambda: len(model.batches) == 2)
        ran = asyncio.create_task(batcher.in_each_lane(lambda: threads.append(get_ident())))
        await asyncio.sleep(0.01)
        assert not threads
        model.go.set()
        await asyncio.gather(ran, *batches)
        assert len(set(threads)) == len(threads) == 2

    run(test, lanes=2)


def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    async def test(batcher: Batcher) -> None:
        with batcher.room("client", 20):
            batcher.check_room("client")
            with pytest.raises(QueueFullError) as refused, batcher.room("client", 11):
                pass
            assert refused.value.retry_s >= 1
            assert (refused.value.limit_views, refused.value.seen_views) == (30, 31)
            with batcher.room("client", 10), pytest.raises(QueueFullError):
                batcher.check_room("client")
        with batcher.room("client", 30):
            pass
        with (
            batcher.room("client", 111),
            pytest.raises(QueueFullError),
        ):  # as an occlusion map takes
            batcher.check_room("client")

    run(test, capacity_views=30)


def test_where_several_clients_wait_each_has_its_part_of_a_batch() -> None:
    async def test(batcher: Batcher) -> None:
        model = Model()
        first = asyncio.create_task(batcher(model, image(0), "other", 5))
        await until(lambda: model.batches)
        sent = [("many", 5)] * 6 + [("few", 5), ("one", 5)]
        tasks = [
            asyncio.create_task(batcher(model, image(n), client, views))
            for n, (client, views) in enumerate(sent, 1)
        ]
        await asyncio.sleep(0.01)
        model.go.set()
        await asyncio.gather(first, *tasks)
        assert model.batches == [
            [0],
            [1, 7, 8, 2],
            [3, 4, 5, 6],
        ]  # half of one, while they share it

    run(test)


def test_what_a_client_took_elsewhere_delays_its_turns() -> None:
    async def test(batcher: Batcher) -> None:
        model = Model()
        model.go.set()
        await batcher(model, image(0), "other", 5)  # it knows then what a view takes
        model.go.clear()
        first = asyncio.create_task(batcher(model, image(1), "other", 5))
        await until(lambda: len(model.batches) == 2)
        batcher.charge("dear", 3600)
        sent = [("dear", 5), ("cheap", 5), ("cheap", 5), ("cheap", 40)]
        tasks = [
            asyncio.create_task(batcher(model, image(n), client, views))
            for n, (client, views) in enumerate(sent, 2)
        ]
        await asyncio.sleep(0.01)
        model.go.set()
        await asyncio.gather(first, *tasks)
        assert model.batches == [[0], [1], [3, 4], [5], [2]]

    run(test)
