"""What headers declare, beside what Pillow finds; and bytes that are no header."""

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alexnet.bounds import MAX_SEGMENTS
from serving.declared import bytes_per_pixel, declared

KINDS = {
    "jpeg": ("JPEG", "RGB", {}, True),
    "jpeg, grey": ("JPEG", "L", {}, True),
    "jpeg, four inks": ("JPEG", "CMYK", {}, True),
    "jpeg, progressive": ("JPEG", "RGB", {"progressive": True}, False),
    "jpeg, with a comment and EXIF": (
        "JPEG", "RGB", {"comment": b"\xff\xc0" * 9, "exif": b"Exif\0\0" + b"\xff\xda" * 99}, True,
    ),
    "png": ("PNG", "RGB", {}, False),
    "png, palette": ("PNG", "P", {}, False),
    "webp": ("WEBP", "RGB", {}, False),
    "webp, lossless": ("WEBP", "RGB", {"lossless": True}, False),
    "webp, with a profile": ("WEBP", "RGBA", {"icc_profile": b"p" * 128}, False),
    "webp, moving": ("WEBP", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (7, 5))]},
                     False),
}  # fmt: skip


def encoded(kind: str, width: int, height: int) -> bytes:
    form, mode, options, _ = KINDS[kind]
    file = io.BytesIO()
    image = Image.new(mode, (width, height))
    options = dict(options)
    if "append_images" in options:
        options["append_images"] = [Image.new(mode, (width, height), "red")]
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (500, 375), (3, 2000), (1025, 1024)])
def test_it_is_what_pillow_finds(kind: str, width: int, height: int) -> None:
    data = encoded(kind, width, height)
    header = declared(data)
    assert header
    assert header.format == KINDS[kind][0]
    assert (header.columns, header.rows) == Image.open(io.BytesIO(data)).size
    assert header.shrinks == KINDS[kind][3]


@given(data=st.data(), kind=st.sampled_from(sorted(KINDS)))
def test_damage_is_no_error(data: st.DataObject, kind: str) -> None:
    file = bytearray(encoded(kind, 20, 30))
    for _ in range(data.draw(st.integers(0, 4))):
        file[data.draw(st.integers(0, min(99, len(file) - 1)))] = data.draw(st.integers(0, 255))
    declared(bytes(file[: data.draw(st.integers(0, len(file)))]))


@pytest.mark.parametrize(
    "data", [b"", b"no image", b"GIF89a", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]
)
def test_other_files_declare_nothing(data: bytes) -> None:
    assert declared(data) is None


def test_a_jpeg_of_segments_alone_is_not_read_to_its_end() -> None:
    assert (
        declared(b"\xff\xd8" + b"\xff\xfe\0\2" * MAX_SEGMENTS + encoded("jpeg", 9, 9)[2:]) is None
    )


def test_memory_counts_what_is_decoded() -> None:
    jpeg, png = (declared(encoded(kind, 4096, 2048)) for kind in ("jpeg", "png"))
    assert jpeg
    assert png
    assert png.decoded_bytes(256) == bytes_per_pixel("PNG") * 4096 * 2048
    assert jpeg.decoded_bytes(256) == bytes_per_pixel("JPEG") * 1024 * 512
    assert jpeg.decoded_bytes(2048) == bytes_per_pixel("JPEG") * 4096 * 2048
    assert jpeg.effort < png.effort


def test_a_whole_scan_of_each_colour_does_not_shrink() -> None:
    """libjpeg holds all of such an image, as it does of a progressive one."""
    data = bytearray(encoded("jpeg", 64, 64))
    scan = data.index(b"\xff\xda")
    data[scan + 4] = 1  # its number of colours
    header = declared(bytes(data))
    assert header
    assert not header.shrinks


def test_random_bytes_declare_nothing() -> None:
    for seed in range(100):
        assert declared(random.Random(seed).randbytes(1000)) is None
