"""Photographs decoded in processes of their own: the same squares, and an end to each of them."""

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.pixels import ImageError, ImageRule, to_square
from pipeline.decoder import Decoder
from pipeline.manifest import DatasetError


@pytest.fixture
def decode() -> Iterator[Decoder]:
    with Decoder(processor_s=1) as decoder:
        yield decoder
    assert not children()


def children() -> list[int]:
    """The processes that this one has started."""
    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return [pid for pid in map(int, found.split()) if b"pipeline.decoder" in arguments(pid)]


def arguments(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def written(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


def slow_gif(comments: int) -> bytes:
    """One pixel, behind many empty comments, each of which Pillow reads in Python."""
    data = written(Image.new("L", (1, 1)), "GIF")
    image = data.index(b",", 13)
    return data[:image] + b"!\xfe\0" * comments + data[image:]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_squares_are_those_of_to_square(decode: Decoder, jpeg: bytes, form: str) -> None:
    data = written(Image.open(io.BytesIO(jpeg)), form)
    for rule in (ImageRule(), ImageRule(framing="squash", filter="bilinear")):
        expected = to_square(data, 64, rule=rule)
        assert np.array_equal(np.asarray(decode(data, 64, rule)), np.asarray(expected))
    assert len(children()) == (form != "JPEG")


def test_threads_decode_beside_each_other(decode: Decoder) -> None:
    files = [written(Image.new("L", (9, 9), grey), "PNG") for grey in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda data: decode(data, 8).getpixel((0, 0)), files)
        assert [pixel[0] for pixel in found] == list(range(40))
    assert 1 <= len(children()) <= 4


def test_refusals_are_those_of_to_square(decode: Decoder) -> None:
    cut = written(Image.effect_noise((99, 99), 9), "PNG")[:500]
    for data, kind in ((b"", "empty"), (b"text", "not-an-image"), (cut, "damaged")):
        with pytest.raises(ImageError) as refused:
            decode(data, 64)
        assert refused.value.kind == kind


def test_one_that_takes_too_long_is_too_large_and_the_next_is_decoded(decode: Decoder) -> None:
    with pytest.raises(ImageError, match="more than 1 seconds of processor time") as refused:
        decode(slow_gif(20_000_000), 64)
    assert refused.value.kind == "too-large"
    assert decode(slow_gif(10), 64).size == (64, 64)


def test_one_that_takes_too_much_memory_is_too_large() -> None:
    with Decoder(bytes_per_pixel=1) as decoder:
        with pytest.raises(ImageError, match="takes more memory than is available") as refused:
            decoder(written(Image.new("RGB", (5000, 5000)), "PNG"), 64)
        assert refused.value.kind == "too-large"
        assert decoder(written(Image.new("RGB", (50, 50)), "PNG"), 64).size == (64, 64)


@pytest.mark.parametrize(
    ("ending", "error", "text"),
    [
        (signal.SIGSEGV, ImageError, "its decoder crashed .SIGSEGV"),
        (signal.SIGKILL, DatasetError, "ended from outside .status -9.*; run the same command"),
    ],
)
def test_a_process_that_ends_is_replaced(
    decode: Decoder, ending: int, error: type[Exception], text: str
) -> None:
    small = written(Image.new("L", (9, 9)), "PNG")
    decode(small, 8)
    (pid,) = children()
    os.kill(pid, ending)
    with pytest.raises(error, match=text):
        decode(small, 8)
    assert decode(small, 8).size == (8, 8)


def test_processes_end_with_the_one_that_started_them() -> None:
    code = """
import io, os, signal
from pathlib import Path
from PIL import Image
from pipeline.decoder import Decoder
file = io.BytesIO()
Image.new("L", (9, 9)).save(file, "PNG")
decoder = Decoder()
decoder(file.getvalue(), 8)
print(Path(f"/proc/self/task/{os.getpid()}/children").read_text(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    pid = int(done.stdout)  # its stderr is closed: it has ended, too
    assert not Path(f"/proc/{pid}").exists() or not arguments(pid)
