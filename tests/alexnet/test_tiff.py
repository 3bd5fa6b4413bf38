"""TIFF files of which Pillow would read something else than is in them."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from alexnet.pixels import ImageError, whole_image
from alexnet.tiff import Tag

PIXELS_HW3 = np.zeros((64, 64, 3), np.uint8)
PIXELS_HW3[:32], PIXELS_HW3[32:, :32] = (220, 40, 60), (30, 200, 90)


def planar(bits: int, order: str) -> bytes:
    """64 x 64 in colour, one plane after the other, without compression."""
    planes = [
        (PIXELS_HW3[..., n].astype(int) * (257 if bits == 16 else 1))
        .astype(f"{order}u{bits // 8}")
        .tobytes()
        for n in range(3)
    ]
    start = 8 + 2 + 12 * 11 + 4
    beside = struct.pack(f"{order}3H", *[bits] * 3).ljust(8, b"\0")
    offsets = [start + 32 + n * len(planes[0]) for n in range(3)]
    beside += struct.pack(f"{order}6I", *offsets, *[len(planes[0])] * 3)
    entries = [
        (256, 4, 1, 64), (257, 4, 1, 64), (258, 3, 3, start), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 3, start + 8), (277, 3, 1, 3), (278, 4, 1, 64), (279, 4, 3, start + 20),
        (284, 3, 1, 2), (339, 3, 1, 1),
    ]  # fmt: skip
    ifd = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        inline = kind == 3 and count == 1
        packed = struct.pack(
            f"{order}{'HH' if inline else 'I'}", *([value, 0] if inline else [value])
        )
        ifd += struct.pack(f"{order}HHI", tag, kind, count) + packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8)
    return head + ifd + bytes(4) + beside + b"".join(planes)


def tagged(mode: str = "RGB", **tags: object) -> bytes:
    file = io.BytesIO()
    info = {Tag[name]: value for name, value in tags.items()}
    Image.fromarray(PIXELS_HW3).convert(mode).save(file, "TIFF", tiffinfo=info)
    return file.getvalue()


def palette_in_8_bits() -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS_HW3).quantize(4).save(file, "TIFF")
    with Image.open(file) as image:
        levels = np.array(image.tag_v2[Tag.COLOURS], "<u2")
    data = file.getvalue()
    assert data.count(levels.tobytes()) == 1
    return data.replace(levels.tobytes(), (levels // 256).tobytes())


@pytest.mark.parametrize("order", "<>")
def test_planes_of_8_bits_are_read(order: str) -> None:
    assert np.array_equal(whole_image(planar(8, order), 64), PIXELS_HW3)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (planar(16, "<"), "the TIFF has planes of 16 bits without compression; export it as JPEG"),
        (planar(16, ">"), "the TIFF has planes of 16 bits without compression; export it as JPEG"),
        (
            palette_in_8_bits(),
            "the TIFF has a palette in 8 bits instead of 16, or a black one; exp",
        ),
        (tagged(SUBFILE=1), "a preview of another, as in a camera's; export it as JPEG, or as TIF"),
        (tagged(DNG_VERSION=b"\1\4\0\0"), "the first image in the file is a preview of another"),
        (
            tagged("L", SAMPLE_FORMAT=(2,)),
            "signed numbers of 8 bits; export it as JPEG, or as TIFF in 8 bits",
        ),
    ],
)
def test_what_would_be_read_wrongly_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(ImageError, match=text) as refused:
        whole_image(data, 64)
    assert refused.value.kind == "unsupported"
