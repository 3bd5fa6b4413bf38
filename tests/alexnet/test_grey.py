"""Every mode of Pillow, and TIFF files of every depth: right, or refused with what is in them."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from alexnet.pixels import ImageError, whole_image

SLOPE_HW = np.linspace(0, 1, 64)[None] + np.zeros((64, 1))
LEVEL_HW = (255 * SLOPE_HW).round()
HOLED_HW = np.where(np.arange(64) == 5, np.nan, SLOPE_HW)


def tiff(
    pixels: bytes, bits: int, kind: int = 1, *, photometric: int = 1, samples: int = 1,
    order: str = "<", packed: bool = False,
) -> bytes:  # fmt: skip
    """64 x 64 of so many samples; kind 1 is unsigned, 2 signed, 3 floating-point."""
    data = zlib.compress(pixels) if packed else pixels
    entries = [
        (256, 4, 64), (257, 4, 64), (258, 3, bits), (259, 3, 8 if packed else 1),
        (262, 3, photometric), (273, 4, 0), (277, 3, samples), (278, 4, 64), (279, 4, len(data)),
        (339, 3, kind),
    ]  # fmt: skip
    start = 8 + 2 + 12 * len(entries) + 4
    ifd, beside = struct.pack(f"{order}H", len(entries)), b""
    for tag, type, value in entries:
        if tag in (258, 339) and samples > 1:
            ifd += struct.pack(f"{order}HHII", tag, type, samples, start + len(beside))
            beside += struct.pack(f"{order}{samples}H", *[value] * samples)
        elif type == 3:
            ifd += struct.pack(f"{order}HHIHH", tag, type, 1, value, 0)
        else:
            value = start + 64 if tag == 273 else value
            ifd += struct.pack(f"{order}HHII", tag, type, 1, value)
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(f"{order}HI", 42, 8) + ifd + bytes(4)
    return head + beside.ljust(64, b"\0") + data


def twelve_bits() -> bytes:
    pair_N2 = (4095 * SLOPE_HW).round().astype(int).reshape(-1, 2)
    a_N, b_N = pair_N2.T
    return np.stack([a_N >> 4, (a_N & 15) << 4 | b_N >> 8, b_N & 255], -1).astype("u1").tobytes()


def saved(image: Image.Image, format: str) -> bytes:
    file = io.BytesIO()
    image.save(file, format)
    return file.getvalue()


def of(array_HW: np.ndarray, dtype: str) -> bytes:
    return array_HW.round().astype(dtype).tobytes()


def check(photograph: bytes | Image.Image) -> None:
    found = whole_image(photograph, 64).astype(int)
    assert np.abs(found - LEVEL_HW[..., None]).max() <= 2


SIXTEEN_HW = 65535 * SLOPE_HW


@pytest.mark.parametrize(
    "data",
    [
        tiff(of(SIXTEEN_HW, "<u2"), 16),
        tiff(of(SIXTEEN_HW, ">u2"), 16, order=">"),
        tiff(of(SIXTEEN_HW, "<u2"), 16, packed=True),
        tiff(of(65535 - SIXTEEN_HW, "<u2"), 16, photometric=0),
        tiff(twelve_bits(), 12),
        tiff(twelve_bits(), 12, packed=True),
        tiff(SLOPE_HW.astype("<f4").tobytes(), 32, 3),
        tiff(SLOPE_HW.astype(">f4").tobytes(), 32, 3, order=">"),
        tiff(SLOPE_HW.astype("<f4").tobytes(), 32, 3, packed=True),
        tiff((1 - SLOPE_HW).astype("<f4").tobytes(), 32, 3, photometric=0),
        tiff(of(SIXTEEN_HW, "<u4"), 32),
        tiff(of(SIXTEEN_HW, "<i4"), 32, 2),
        tiff(of(np.stack([SIXTEEN_HW] * 3, -1), "<u2"), 16, photometric=2, samples=3),
        tiff(of(np.stack([SIXTEEN_HW] * 3, -1), ">u2"), 16, photometric=2, samples=3, order=">"),
        b"P5 64 64 65535 " + of(SIXTEEN_HW, ">u2"),
        b"P5 64 64 1023 " + of(1023 * SLOPE_HW, ">u2"),
        saved(Image.fromarray(SIXTEEN_HW.round().astype(np.uint16)), "PNG"),
        saved(Image.fromarray(SIXTEEN_HW.round().astype(np.uint16)), "JPEG2000"),
    ],
    ids=range(18),
)
def test_a_depth_that_the_file_tells_is_scaled(data: bytes) -> None:
    check(data)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (tiff((255 * SLOPE_HW).astype("<f4").tobytes(), 32, 3), "floats from 0 to 255; only 0 to"),
        (tiff((SLOPE_HW - 0.5).astype("<f4").tobytes(), 32, 3), r"floats from -0\.5 to 0\.5"),
        (tiff((0 * SLOPE_HW + np.nan).astype("<f4").tobytes(), 32, 3), "floats from nan to nan"),
        (tiff(HOLED_HW.astype("<f4").tobytes(), 32, 3), "NaN"),
        (tiff((SLOPE_HW + np.inf).astype("<f4").tobytes(), 32, 3), "floats from inf to inf"),
        (tiff(of(LEVEL_HW, "<u4"), 32), "32-bit integers from 0 to 255"),
        (tiff(of(70000 * SLOPE_HW, "<u4"), 32), "32-bit integers from 0 to 70,000"),
        (tiff(of(70000 * SLOPE_HW - 9, "<i4"), 32, 2), "32-bit integers from -9 to"),
        (tiff(of((2**32 - 1) * SLOPE_HW, "<u4"), 32), "32-bit integers from -2"),
        (tiff(of(32767 * SLOPE_HW, "<i2"), 16, 2), "signed integers from 0 to 32,767"),
        (tiff(SLOPE_HW.astype("<f2").tobytes(), 16, 3), "a kind of TIFF that cannot be read"),
        (tiff(SLOPE_HW.astype("<f8").tobytes(), 64, 3), "a kind of TIFF that cannot be read"),
        (tiff(of(np.stack([SIXTEEN_HW] * 3, -1), "<u4"), 32, photometric=2, samples=3),
         "a kind of TIFF that cannot be read"),
        (tiff(np.stack([SLOPE_HW] * 3, -1).astype("<f4").tobytes(), 32, 3, photometric=2,
              samples=3), "a kind of TIFF that cannot be read"),
        (tiff(twelve_bits(), 12, order=">"), "a kind of TIFF that cannot be read"),
        (tiff(bytes(64 * 64 * 10 // 8), 10), "a kind of TIFF that cannot be read"),
    ],
    ids=range(16),
)  # fmt: skip
def test_a_depth_that_is_not_known_is_refused_with_what_is_there(data: bytes, text: str) -> None:
    with pytest.raises(ImageError, match=text) as refused:
        whole_image(data, 64)
    assert refused.value.kind == "unsupported"


def test_black_is_black_in_every_depth() -> None:
    for data in (tiff(bytes(4 * 64**2), 32), tiff(bytes(4 * 64**2), 32, 3)):
        assert not whole_image(data, 64).any()


def test_a_large_image_is_judged_by_all_its_pixels() -> None:
    """Also by the one that disappears when it shrinks."""
    pixels = np.full((1000, 1000), 0.5, np.float32)
    assert (whole_image(Image.fromarray(pixels), 64) == 128).all()
    pixels[777, 333] = 2
    with pytest.raises(ImageError, match=r"floats from 0\.5 to 2"):
        whole_image(Image.fromarray(pixels), 64)


@pytest.mark.parametrize(
    "mode",
    ["L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB",
     "I;16", "I;16L", "I;16B", "I", "F"],
)  # fmt: skip
def test_every_mode_of_pillow_is_the_same_picture(mode: str) -> None:
    grey = Image.fromarray(LEVEL_HW.astype(np.uint8))
    match mode:
        case "LAB":
            srgb, lab = map(ImageCms.createProfile, ("sRGB", "LAB"))
            image = ImageCms.profileToProfile(grey.convert("RGB"), srgb, lab, outputMode="LAB")
        case "I" | "F":
            image = Image.fromarray(
                SLOPE_HW.astype("f4") if mode == "F" else SIXTEEN_HW.round().astype("i4")
            )
        case "I;16" | "I;16L" | "I;16B":
            order = ">" if mode == "I;16B" else "<"
            image = Image.frombytes(mode, (64, 64), of(SIXTEEN_HW, f"{order}u2"))
        case "La":
            image = grey.convert("LA").convert("La")
        case "RGBa":
            image = grey.convert("RGBA").convert("RGBa")
        case "P" | "PA" | "HSV" | "YCbCr" | "CMYK" | "RGBX":
            image = grey.convert("RGB").convert("P" if mode == "PA" else mode)
            image = image.convert("PA") if mode == "PA" else image
        case _:
            image = grey.convert(mode)
    assert image.mode == mode
    if mode == "P":
        assert np.abs(whole_image(image, 64).astype(int) - LEVEL_HW[..., None]).mean() < 30
    elif mode == "PA":
        assert np.array_equal(whole_image(image, 64), whole_image(image.convert("P"), 64))
    else:
        check(image)
