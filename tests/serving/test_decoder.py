"""The processes that decode; what becomes of those that die stands in test_chaos.py."""

import asyncio
import io
import math
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from alexnet import sandbox
from alexnet.pixels import ImageError, ImageRule, whole_image
from serving.decoder import MORE_FOR_LARGE, NICENESS, SMALL, Decoder, _run
from serving.settings import Settings
from tests.conftest import ROOT
from tests.serving.conftest import PATIENCE_S

WITHOUT_SECCOMP = """
import ctypes, errno, os, platform, socket, struct, sys
from alexnet import sandbox
number = sandbox.SECCOMP[sandbox.MACHINES[platform.machine()][0]]
code = b"".join(struct.pack("=HBBI", *line) for line in (
    (sandbox.LOAD, 0, 0, sandbox.NUMBER), (sandbox.IF_EQUAL, 0, 1, number),
    (sandbox.RETURN, 0, 0, sandbox.REFUSE | errno.ENOSYS), (sandbox.RETURN, 0, 0, sandbox.ALLOW),
))
assert ctypes.CDLL(None).prctl(sandbox.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
assert sandbox._seccomp(sandbox._Program(len(code) // 8, code)) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""Python code that starts Python with its arguments on a kernel that seems to lack seccomp."""
needs_seccomp = pytest.mark.skipif(not sandbox.available(), reason="seccomp is missing here")


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def a_decoder(processes: int) -> Decoder:
    settings = Settings(model=(Path("unused"),), decoders=processes, decode_s=PATIENCE_S)
    return Decoder(settings, 2**28, lambda client, seconds: None)


def test_processes_are_there_before_the_first_image(jpeg: bytes) -> None:
    async def start_and_decode() -> None:
        before = children()
        decoder = a_decoder(processes=2)
        await decoder.start()
        started = children()
        assert len(started - before) == 2
        images = await asyncio.gather(*(decoder(jpeg, 72, ImageRule(), "client") for _ in range(4)))
        assert {image.shape for image in images} == {(72, 72, 3)}
        assert children() == started

    asyncio.run(start_and_decode())


def test_large_images_are_decoded_by_a_thread_that_stands_back(jpeg: bytes) -> None:
    file = io.BytesIO()
    side = math.isqrt(SMALL) + 1
    Image.radial_gradient("L").resize((side, side)).convert("RGB").save(file, "PNG")
    charged: list[float] = []

    async def decode() -> None:
        settings = Settings(model=(Path("unused"),), decoders=1, decode_s=PATIENCE_S)
        decoder = Decoder(settings, 2**28, lambda client, seconds: charged.append(seconds))
        before = children()
        await decoder.start()
        (pid,) = children() - before
        threads = Path(f"/proc/{pid}/task")
        own = os.nice(0)  # which a server may be started with
        assert niceness(threads / str(pid)) == min(19, own + NICENESS)
        large = min(19, own + NICENESS + MORE_FOR_LARGE)
        (of_large,) = (one for one in threads.iterdir() if niceness(one) == large)
        idle_ns = ran_ns(of_large)
        await decoder(jpeg, 72, ImageRule(), "client")
        assert ran_ns(of_large) == idle_ns
        image_SS3 = await decoder(file.getvalue(), 72, ImageRule(), "client")
        assert ran_ns(of_large) > idle_ns
        assert (image_SS3 == whole_image(file.getvalue(), 72)).all()

    asyncio.run(decode())
    assert len(charged) == 2


def niceness(thread: Path) -> int:
    return int((thread / "stat").read_text().rpartition(")")[2].split()[16])


def ran_ns(thread: Path) -> int:
    return int((thread / "schedstat").read_text().split()[0])


@needs_seccomp
def test_they_are_in_the_sandbox_and_go_on_after_an_attempt(jpeg: bytes, tmp_path: Path) -> None:
    attempts: list[tuple[Callable[..., Any], *tuple[Any, ...]]] = [
        (open, "/etc/hostname"),
        (open, str(tmp_path / "new"), "w"),
        (socket.socket,),
        (os.fork,),
        (os.execv, "/bin/true", ["true"]),
        (os.kill, os.getpid(), 0),
    ]

    async def attempt_and_decode() -> None:
        decoder = a_decoder(processes=1)
        before = await decoder(jpeg, 72, ImageRule(), "client")
        started = children()
        for function, *arguments in attempts:
            with pytest.raises(PermissionError):
                await _run(function, *arguments)
        assert ((await decoder(jpeg, 72, ImageRule(), "client")) == before).all()
        assert children() == started

    asyncio.run(attempt_and_decode())


@needs_seccomp
def test_without_seccomp_they_decode_all_the_same(jpeg: bytes) -> None:
    code = """
import asyncio, sys
from alexnet import sandbox
from alexnet.pixels import ImageRule
from serving.decoder import Decoder
from serving.settings import Settings

async def decode(data):
    decoder = Decoder(Settings(model=("unused",), decoders=1), 2**28, print)
    return await decoder(data, 72, ImageRule(), "client")

assert not sandbox.available()
print(asyncio.run(decode(sys.stdin.buffer.read())).shape)
"""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_SECCOMP, "-c", code], cwd=ROOT, input=jpeg,
        stdout=subprocess.PIPE, check=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.stdout.endswith(b"(72, 72, 3)\n")


@needs_seccomp
@pytest.mark.parametrize(("prelude", "count"), [([], 0), (["-c", WITHOUT_SECCOMP], 1)])
def test_a_server_says_so_once_where_they_are_not_confined(
    model: Path, prelude: list[str], count: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, *prelude, "-m", "serving", "--model", model, "--port", port],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert "address already in use" in done.stderr.lower()
    assert done.stderr.count("decoders are not confined") == count


def test_an_image_has_no_more_pixels_than_its_header_declares() -> None:
    """Its turn and its memory were given to it for those."""
    file = io.BytesIO()
    Image.new("RGB", (400, 400), "teal").save(file, "WEBP")
    frame = file.getvalue()[12:]
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + 2 * (99).to_bytes(3, "little")
    data = b"RIFF" + struct.pack("<I", 4 + len(canvas + frame)) + b"WEBP" + canvas + frame

    async def decode() -> None:
        with pytest.raises(ImageError) as refused:
            await a_decoder(processes=1)(data, 72, ImageRule(), "client")
        assert refused.value.kind in ("damaged", "unsupported"), refused.value

    asyncio.run(decode())
