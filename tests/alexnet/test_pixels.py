"""Any image to RGB, against Pillow calls written out."""

import io
import re
import struct
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet.pixels import FORMATS, MAX_PIXELS, ImageError, ImageRule, whole_image


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (77, 301), (64, 64), (31, 47)])
def test_whole_image_is_the_scaled_centre_square(size: tuple[int, int]) -> None:
    """Against scaling the short side and cutting the centre, in two steps, on a smooth image."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    image = Image.fromarray(np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8))
    scale = 128 / min(size)
    scaled = image.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (scaled.width - 128) / 2, (scaled.height - 128) / 2
    expected = np.asarray(scaled.crop((int(left), int(top), int(left) + 128, int(top) + 128)))
    found = whole_image(encoded(image), 128)
    assert found.shape == (128, 128, 3)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 4


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_the_rules_of_other_programs_are_pillows_plain_resize(filter: str, jpeg: bytes) -> None:
    """Squashed as Caffe's images; or all of it scaled and then cut, as torchvision does."""
    image, resampling = Image.open(io.BytesIO(jpeg)), Image.Resampling[filter.upper()]
    all_of_it = image.resize((384, 256), resampling)
    for framing, expected in (
        ("squash", image.resize((256, 256), resampling)),
        ("crop", all_of_it.crop((64, 0, 320, 256))),
        ("pixel-crop", all_of_it.crop((64, 0, 320, 256))),
    ):
        found = whole_image(jpeg, rule=ImageRule(framing=framing, filter=filter))
        assert np.array_equal(found, np.asarray(expected)), framing


@pytest.mark.parametrize("size", [(299, 223), (223, 299), (500, 375), (375, 500), (301, 90)])
def test_a_pixel_crop_is_torchvisions(size: tuple[int, int]) -> None:
    """Resize and CenterCrop of torchvision/transforms/functional.py, on noise."""
    pixels = np.random.default_rng(2).integers(0, 256, (*size[::-1], 3), np.uint8)
    width, height = (int(128 * side / min(size)) for side in size)
    scaled = Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - 128) / 2.0), round((height - 128) / 2.0)
    expected = np.asarray(scaled.crop((left, top, left + 128, top + 128))).astype(int)
    rule = ImageRule(framing="pixel-crop", filter="bilinear")
    found = whole_image(encoded(Image.fromarray(pixels)), 128, rule=rule)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.005  # Pillow keeps the box in float32


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_gives_the_same_image(orientation: int) -> None:
    upright = np.zeros((40, 60, 3), np.uint8)
    upright[:20, :, 0], upright[:, :30, 1] = 200, 150
    stored = {  # how a camera held that way stores it
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: upright.swapaxes(0, 1)[::-1],
        7: upright.swapaxes(0, 1)[::-1, ::-1], 8: upright.swapaxes(0, 1)[:, ::-1],
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = whole_image(encoded(Image.fromarray(stored), exif=exif), 64)
    assert np.array_equal(found, whole_image(encoded(Image.fromarray(upright)), 64))


def test_unreadable_exif_says_nothing_about_the_pixels(jpeg: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.open(io.BytesIO(jpeg))
    marked = encoded(image, "JPEG", exif=exif, quality=95)
    broken = marked.replace(b"Exif\0\0MM\0*", b"Exif\0\0M4\0*")
    assert broken != marked
    assert np.array_equal(whole_image(broken), whole_image(encoded(image, "JPEG", quality=95)))


def test_every_mode_of_one_gray_is_that_gray() -> None:
    gray = Image.new("L", (50, 50), 100)
    sixteen = Image.fromarray(np.full((50, 50), 100 * 257, np.uint16))
    half = Image.new("RGBA", (50, 50), (0, 0, 0, 155))  # 155/255 black on white
    palette = gray.convert("P")
    for data in (
        encoded(gray),
        encoded(gray.convert("RGB")),
        encoded(gray.convert("RGBA")),
        encoded(gray.convert("LA")),
        encoded(palette),
        encoded(sixteen),
        encoded(half),
        encoded(gray.convert("RGB").convert("CMYK"), "JPEG", quality=100),
        encoded(gray, "JPEG", quality=100),
        encoded(gray, "WEBP", lossless=True),
        encoded(gray, "GIF"),
    ):
        assert np.abs(whole_image(data, 64).astype(int) - 100).max() <= 1


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "I;16", "1"])
def test_large_images_shrink_to_the_same(mode: str) -> None:
    """Ten times the size, each pixel a block, so that it shrinks before it is scaled."""
    side = np.linspace(0, 255, 64)
    small = Image.fromarray((side[:, None] / 2 + side / 2).astype(np.uint8))
    if mode == "I;16":
        small = Image.fromarray(np.asarray(small).astype(np.uint16) * 257)
    elif mode == "P":
        small = small.quantize(64)
    else:
        small = small.convert(mode, dither=Image.Dither.NONE)
    large = small.resize((640, 640), Image.Resampling.NEAREST)
    found, expected = (whole_image(encoded(image), 64) for image in (large, small))
    assert np.abs(found.astype(int) - expected).mean() < 1


@pytest.mark.parametrize("mode", ["RGBA", "I;16", "WEBP", "progressive"])
def test_the_largest_image_takes_little_more_than_a_gibibyte(mode: str, tmp_path: Path) -> None:
    side = int(MAX_PIXELS**0.5)
    match mode:
        case "WEBP":
            data = encoded(Image.new("RGBA", (side, side), "red"), "WEBP", lossless=True, method=0)
        case "progressive":
            image = Image.new("RGB", (side, side), "red")
            data = encoded(image, "JPEG", progressive=True, subsampling=0)
        case _:
            data = encoded(Image.new(mode, (side, side)), compress_level=1)
    (tmp_path / "large").write_bytes(data)
    code = f"""
from pathlib import Path
from alexnet.pixels import whole_image
whole_image(Path({str(tmp_path / "large")!r}).read_bytes())
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True)
    assert int(done.stdout) < 1280 * 1024  # a Ray worker has 100 MiB of its own


def test_transparent_is_white() -> None:
    clear = encoded(Image.new("RGBA", (30, 30), (10, 20, 30, 0)))
    assert (whole_image(clear, 64) == 255).all()


def test_an_image_one_pixel_wide_stays_small() -> None:
    assert whole_image(encoded(Image.new("L", (1, 60_000), 7)), 64).shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"<html>not found</html>", "not-an-image"),
        (b"\xff\xd8\xff\xe0 and no more", "damaged"),
        (encoded(Image.new("1", (MAX_PIXELS // 5000 + 1, 5000))), "too-large"),
        (encoded(Image.new("1", (3 * MAX_PIXELS // 5000, 5000))), "too-large"),
    ],
    ids=["empty", "html", "header", "over the limit", "three times the limit"],
)
def test_what_is_no_image_is_refused(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as refused:
        whole_image(data)
    assert refused.value.kind == kind


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_image_is_refused(jpeg: bytes, share: float) -> None:
    with pytest.raises(ImageError) as refused:
        whole_image(jpeg[: int(share * len(jpeg))])
    assert refused.value.kind == "damaged"


def test_a_format_that_is_not_allowed_is_refused() -> None:
    bmp = encoded(Image.new("L", (9, 9)), "BMP")
    assert whole_image(bmp, 64).shape == (64, 64, 3)
    with pytest.raises(ImageError, match=r"not an image of a supported format \(JPEG, PNG"):
        whole_image(bmp, 64, ("JPEG", "PNG"))


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some that it decodes all the same
def test_an_opened_image_is_its_file(test_data: Path) -> None:
    """EXIF orientations, and files that break decoders: the same pixels, or both refused. Of each
    file an image or an ImageError, nothing else."""
    files = [path for path in (test_data / "nasty-images").iterdir() if path.suffix != ".jsonl"]
    assert len(files) > 600
    files += (test_data / "exif-orientation").glob("*.jpg")
    decoded = refused = 0
    for path in files:
        data = path.read_bytes()
        try:
            of_file = whole_image(data, 64)
            assert of_file.shape == (64, 64, 3)
        except ImageError as error:
            of_file, reason = None, str(error)
        with ExitStack() as stack:
            try:
                opened = stack.enter_context(Image.open(io.BytesIO(data), formats=FORMATS))
                opened.draft(None, (128, 128))  # as JPEGs are that come as files
            except Exception:  # decoders of hostile files raise almost anything
                continue
            if of_file is None:
                with pytest.raises(ImageError, match=f"^{re.escape(reason)}"):
                    whole_image(opened, 64)
                refused += 1
            else:
                assert np.array_equal(whole_image(opened, 64), of_file), path
                decoded += 1
    assert decoded > len(files) / 4
    assert refused > 20


def test_the_size_of_what_pillow_itself_refuses_is_known() -> None:
    data = bytearray(encoded(Image.new("RGB", (1, 1)), "BMP"))
    struct.pack_into("<ii", data, 18, 60_000, 60_000)
    with pytest.raises(ImageError, match="has 3,600,000,000 pixels; the limit is") as refused:
        whole_image(bytes(data), 64)
    assert (refused.value.kind, refused.value.seen) == ("too-large", 3_600_000_000)


def test_importing_any_module_leaves_pillow_and_warnings_as_they_were() -> None:
    code = """
import importlib, pkgutil, warnings
import alexnet, torch
from PIL import Image
before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)
for module in pkgutil.iter_modules(alexnet.__path__):
    if module.name != "__main__":
        importlib.import_module(f"alexnet.{module.name}")
assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_reason_is_given_where_pillow_gives_none() -> None:
    """A palette image without its palette, at which an assertion of Pillow's fails."""
    data = encoded(Image.new("P", (8, 8)))
    start, end = data.index(b"PLTE") - 4, data.index(b"IDAT") - 4
    with pytest.raises(ImageError, match=r"is damaged or cut short \(assertion error\)"):
        whole_image(data[:start] + data[end:])
