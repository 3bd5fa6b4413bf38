"""The service without HTTP."""

import asyncio
import threading

import pytest
import torch
from torch import Tensor

from alexnet.checkpoint import Checkpoint
from alexnet.predictor import Predictor
from serving.batcher import QueueFullError
from serving.models import Models, Served
from serving.service import Service, Views
from serving.settings import Settings
from tests.serving.conftest import PATIENCE_S


@pytest.mark.parametrize(
    ("device", "settings", "images"),
    [
        ("cpu", {}, 64),
        ("cuda", {}, 512),
        ("cpu", {"max_files": 65}, 65),
        ("cuda", {"queue_pictures": 40}, 40),
    ],
)
def test_the_queue_holds_eight_batches_of_the_device_or_what_it_is_told(
    monkeypatch: pytest.MonkeyPatch, device: str, settings: dict[str, int], images: int
) -> None:
    monkeypatch.setattr("serving.service.default_device", lambda: torch.device(device))
    service = Service(Settings(model=("unused",), **settings), Models(()))
    assert service.queue_pictures == images

    async def fill() -> None:
        with service.batcher.room("client", 10 * images), pytest.raises(QueueFullError):
            service.batcher.check_room("client")

    asyncio.run(fill())


def test_where_one_image_fails_in_the_model_room_is_held_until_all_have_ended(
    checkpoint: Checkpoint, jpeg: bytes
) -> None:
    go, calls = threading.Event(), []

    def classify(image_N3SS: Tensor, views: int) -> Tensor:
        calls.append(len(image_N3SS))
        if len(calls) == 1:
            raise RuntimeError("out of memory")
        assert go.wait(PATIENCE_S)
        return torch.ones(len(image_N3SS), views, 7) / 7

    async def main() -> None:
        served = Served(Predictor([checkpoint]))
        served.predictor.classify = classify  # type: ignore[method-assign]
        # One decoder, so that the second image comes once the first is in the model.
        settings = Settings(
            model=("unused",), queue_pictures=2, max_files=2, decoders=1, decode_s=PATIENCE_S
        )
        service = Service(settings, Models((), served))
        running = asyncio.create_task(service.batcher.run())
        async with asyncio.timeout(PATIENCE_S):
            answer = asyncio.create_task(
                service.classify(served, [jpeg, jpeg], Views.TEN, "client")
            )
            while len(calls) < 2:
                await asyncio.sleep(0.01)
            assert not answer.done()
            with pytest.raises(QueueFullError):
                service.batcher.check_room("client")
            go.set()
            with pytest.raises(RuntimeError, match="out of memory"):
                await answer
        service.batcher.check_room("client")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(main())
