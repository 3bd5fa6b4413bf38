"""The processes that decode; what becomes of those that die stands in test_chaos.py."""

import asyncio

import psutil

from alexnet.pixels import ImageRule, Limits
from serving.decoder import Decoder


def test_processes_are_there_before_the_first_image(jpeg: bytes) -> None:
    def decoders() -> set[int]:
        return {child.pid for child in psutil.Process().children()}

    async def start_and_decode() -> None:
        before = decoders()
        decoder = Decoder(2, ("JPEG",), Limits(), timeout_s=120)
        await decoder.start()
        started = decoders()
        assert len(started - before) == 2
        images = await asyncio.gather(*(decoder(jpeg, 72, ImageRule()) for _ in range(4)))
        assert {image.shape for image in images} == {(72, 72, 3)}
        assert decoders() == started

    asyncio.run(start_and_decode())
