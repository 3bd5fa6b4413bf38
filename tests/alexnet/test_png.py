"""PNG chunks that say nothing about pixels, of any size."""

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from alexnet.pixels import ImageError, whole_image
from alexnet.png import without_profiles

XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def png() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((96, 64)).save(file, "PNG")
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def with_chunks(*chunks: bytes, last: bool = False) -> bytes:
    data = png()
    place = len(data) - 12 if last else 33  # before IEND, or after IHDR
    return data[:place] + b"".join(chunks) + data[place:]


def itxt(keyword: bytes, text: bytes, packed: bool) -> bytes:
    body = zlib.compress(text) if packed else text
    return chunk(b"iTXt", keyword + b"\0" + bytes([packed]) + b"\0\0\0" + body)


LARGE = b"0" * (5 * 2**20)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    "chunks",
    [
        [chunk(b"iCCP", b"p\0\0" + zlib.compress(LARGE))],
        [chunk(b"zTXt", b"k\0\0" + zlib.compress(LARGE))],
        [chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(LARGE))],
        [chunk(b"tEXt", b"k\0" + LARGE)],
        [itxt(b"k", LARGE, packed=True)],
        [itxt(b"k", LARGE, packed=False)],
        [itxt(b"XML:com.adobe.xmp", LARGE, packed=True)],
        [chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**20)))] * 80,
        [chunk(b"iCCP", b"")],
        [chunk(b"iCCP", b"p\0\x07junk")],
        [chunk(b"zTXt", b"k\0\0no zlib")],
        [chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0")],
    ],
)
def test_no_size_of_profile_or_text_spoils_an_image(chunks: list[bytes], last: bool) -> None:
    assert np.array_equal(whole_image(with_chunks(*chunks, last=last), 64), whole_image(png(), 64))


@pytest.mark.parametrize("packed", [False, True])
def test_an_orientation_in_a_text_still_counts(packed: bool) -> None:
    turned = Image.open(io.BytesIO(png())).transpose(Image.Transpose.ROTATE_270)
    profile = chunk(b"iCCP", b"p\0\0" + zlib.compress(LARGE))
    other = chunk(b"tEXt", b"Comment\0" + LARGE)
    data = with_chunks(profile, itxt(b"XML:com.adobe.xmp", XMP, packed), other)
    assert np.array_equal(whole_image(data, 64), whole_image(turned, 64))


def test_a_file_without_them_is_itself() -> None:
    data = png()
    assert without_profiles(data) is data


def test_what_is_damaged_stays_and_is_found() -> None:
    broken = bytearray(chunk(b"zTXt", b"k\0\0" + zlib.compress(b"text")))
    broken[-1] ^= 1
    with pytest.raises(ImageError) as refused:
        whole_image(with_chunks(bytes(broken)))
    assert refused.value.kind in ("damaged", "unsupported")
    for length in range(8, len(png()), 7):
        assert without_profiles(png()[:length]) == png()[:length]


def test_texts_that_grow_without_end_are_never_unpacked() -> None:
    bomb = zlib.compress(bytes(2**26), 9)
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)
    data = with_chunks(*[text] * 20)
    tracemalloc.start()
    without_profiles(data)
    assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()
