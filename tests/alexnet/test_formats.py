"""Every format of the list, written by Pillow and told by how it begins."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from alexnet.formats import ENDINGS, FORMATS, readable, recognise
from alexnet.pixels import ImageError, whole_image

WRITTEN = [name for name in FORMATS if name != "HEIF" or name in readable()]


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def slope(width: int = 96, height: int = 64) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_each_is_recognised_and_decoded(name: str, mode: str) -> None:
    image = slope().convert(mode)
    data = encoded(image, name)
    assert recognise(data) == name
    found = whole_image(data, 64).astype(int)
    expected = whole_image(encoded(image, "PNG"), 64)
    assert np.abs(found - expected).mean() < 4


def test_no_beginning_is_taken_for_two_formats() -> None:
    assert [recognise(encoded(slope(), name)) for name in WRITTEN] == WRITTEN
    assert len(set(ENDINGS)) == len(ENDINGS)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIF"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "AVIF"),
        (b"II+\0\x08\0\0\0", "TIFF"),
        (b"\xff\x4f\xff\x51\0", "JPEG2000"),
        (b"BMW is no bitmap, but a car", ""),
        (b"P7 or not", ""),
        (b"", ""),
    ],
)
def test_brands_and_variants(data: bytes, name: str) -> None:
    assert recognise(data) == name


@pytest.mark.parametrize("name", ["PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"])
def test_a_cut_beginning_is_not_called_another_format(name: str) -> None:
    with pytest.raises(ImageError, match=f"begins as {name}, but|damaged or cut short"):
        whole_image(encoded(slope(), name)[:40])


def test_a_known_format_that_is_never_read_is_named() -> None:
    with pytest.raises(ImageError, match=r"not an image of a supported format .*: it is JPEG XL$"):
        whole_image(b"\xff\x0a\0\0")


@pytest.mark.skipif("HEIF" in readable(), reason="pillow-heif is installed")
def test_heic_without_its_plugin_names_it() -> None:
    with pytest.raises(ImageError, match=r"it is HEIF \(HEIC\), .* `pip install pillow-heif`$"):
        whole_image(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")


@pytest.mark.skipif("HEIF" not in readable(), reason="pillow-heif is not installed")
def test_heic_is_read_upright_with_its_plugin() -> None:
    image = slope(128, 128)
    image.getexif()[0x0112] = 6
    found = whole_image(encoded(image, "HEIF", quality=-1), 64).astype(int)
    upright = image.transpose(Image.Transpose.ROTATE_270)
    assert np.abs(found - whole_image(encoded(upright, "PNG"), 64)).mean() < 4


@pytest.mark.parametrize("turn", ["exif", "box"])
def test_avif_is_upright(turn: str) -> None:
    image, exif = slope(), Image.Exif()
    exif[0x0112] = 6
    data = encoded(image, "AVIF", exif=exif, quality=95)  # Pillow writes both
    if turn == "box":
        data = data.replace(b"Exif\0\0", b"\0\0\0\0\0\0")
    upright = image.transpose(Image.Transpose.ROTATE_270)
    found = whole_image(data, 64).astype(int)
    assert np.abs(found - whole_image(encoded(upright, "PNG"), 64)).mean() < 4


@pytest.mark.parametrize("name", ["AVIF", "WEBP", "GIF", "PNG", "TIFF", "MPO"])
def test_of_many_images_the_first_is_taken(name: str) -> None:
    red = Image.new("RGB", (96, 64), "red")
    data = encoded(slope(), name, save_all=True, append_images=[red, red])
    assert np.abs(whole_image(data, 64).astype(int) - whole_image(slope(), 64)).mean() < 4


def test_large_profiles_of_any_format_do_no_harm() -> None:
    exif = Image.Exif()
    exif[0x927C] = bytes(60_000)
    profile = bytes(3 * 2**20)
    for name in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        data = encoded(slope(), name, icc_profile=profile, exif=exif)
        assert np.abs(whole_image(data, 64).astype(int) - whole_image(slope(), 64)).mean() < 4


def test_importing_them_loads_no_plugin() -> None:
    code = "import alexnet.pixels; from PIL import Image; print(sorted(Image.OPEN))"
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert done.stdout.strip() == "[]"
