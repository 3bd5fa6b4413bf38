"""The processes that decode; what becomes of those that die stands in test_chaos.py."""

import asyncio
from pathlib import Path

import psutil

from alexnet.pixels import ImageRule
from serving.decoder import Decoder
from serving.settings import Settings
from tests.serving.conftest import PATIENCE_S


def test_processes_are_there_before_the_first_image(jpeg: bytes) -> None:
    def decoders() -> set[int]:
        return {child.pid for child in psutil.Process().children()}

    async def start_and_decode() -> None:
        before = decoders()
        settings = Settings(model=(Path("unused"),), decoders=2, decode_s=PATIENCE_S)
        decoder = Decoder(settings, memory_bytes=2**28)
        await decoder.start()
        started = decoders()
        assert len(started - before) == 2
        images = await asyncio.gather(*(decoder(jpeg, 72, ImageRule(), "client") for _ in range(4)))
        assert {image.shape for image in images} == {(72, 72, 3)}
        assert decoders() == started

    asyncio.run(start_and_decode())
