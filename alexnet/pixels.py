"""From any photograph to what the network sees; the one way, for packing and for serving.

Without torch, so that packing tasks start at once and stay small.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Literal, NamedTuple

import numpy as np
from PIL import ExifTags, Image
from pydantic import BaseModel, ConfigDict

from alexnet import formats as known
from alexnet import tiff
from alexnet.bounds import excess
from alexnet.grey import UnknownGreyError, grey_of
from alexnet.png import without_profiles

SIZE = 256
"""Rows and columns of a whole image at full size (§2)."""

MAX_PIXELS = 2**26
"""Largest width x height that is decoded where nobody says otherwise; a small file can declare far
more than memory holds: decoding takes up to 1.25 GiB."""
MOST_PIXELS = 2**28
"""The most that anybody can allow: 200-megapixel photographs, with room."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""{EXIF orientation: what puts it right}."""

FORMATS = tuple(known.FORMATS)

Refusal = Literal["empty", "not-an-image", "unsupported", "too-large", "damaged"]


class ImageRule(BaseModel):
    """How a photograph becomes a square. By default as packed datasets have it (§2); imported
    models bring the rule that they were trained with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    framing: Literal["crop", "pixel-crop", "squash"] = "crop"
    """crop: short side scaled, centre kept. pixel-crop: the same where the scaled long side and
    the crop's corner are rounded to whole pixels, as torchvision does: up to one pixel aside.
    squash: both sides scaled, whatever their ratio."""
    filter: Literal["bicubic", "bilinear"] = "bicubic"
    """Pillow's filter of that name; both are antialiased."""

    @property
    def resampling(self) -> Image.Resampling:
        return Image.Resampling[self.filter.upper()]

    def box(self, width: int, height: int, size: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what becomes size x size, in pixels of the image."""
        if self.framing == "squash":
            return 0, 0, width, height
        short = min(width, height)
        if self.framing == "crop":
            left, top = (width - short) / 2, (height - short) / 2
            return left, top, left + short, top + short
        wide, high = size * width // short, size * height // short
        x, y = round((wide - size) / 2), round((high - size) / 2)
        left, right = x * width / wide, (x + size) * width / wide
        return left, y * height / high, right, (y + size) * height / high


PACKED = ImageRule()
"""The rule of every packed dataset."""


class ImageError(ValueError):
    """Bytes that are no image we can use. `kind` is for programs, the text for people."""

    def __init__(
        self,
        kind: Refusal,
        text: str,
        what: str = "",
        limit: float | None = None,
        seen: float | None = None,
    ) -> None:
        super().__init__(text)
        self.kind = kind
        self.what, self.limit, self.seen = what, limit, seen
        """Where the kind is "too-large": which of the limits, its value, and the image's."""

    def __reduce__(self) -> tuple:
        return type(self), (self.kind, str(self), self.what, self.limit, self.seen)


class Limits(NamedTuple):
    """What an image may ask of the machine; checked by its header, before it is decoded."""

    pixels: int = MAX_PIXELS
    """Width x height."""
    aspect: float = inf
    """Long side by short side."""

    def check(self, image: Image.Image) -> None:
        """Check the image; raises ImageError of kind "too-large", with limit and value."""
        found = {
            "pixels": image.width * image.height,
            "aspect": max(image.size) / max(1, min(image.size)),
        }
        for what, seen in found.items():
            if seen > (limit := getattr(self, what)):
                raise _too_many(what, seen, limit)


UNLIMITED = Limits()
"""No limit but MAX_PIXELS."""


def whole_image(
    photograph: bytes | Image.Image,
    size: int = SIZE,
    formats: tuple[str, ...] = FORMATS,
    rule: ImageRule = PACKED,
    limits: Limits = UNLIMITED,
) -> np.ndarray:
    """`to_square` as (size, size, 3) uint8."""
    return np.array(to_square(photograph, size, formats, rule, limits))


def to_square(
    photograph: bytes | Image.Image,
    size: int,
    formats: tuple[str, ...] = FORMATS,
    rule: ImageRule = PACKED,
    limits: Limits = UNLIMITED,
) -> Image.Image:
    """A photograph -> RGB of size x size, as `rule` has it: else short side to `size`, centre (§2).

    It is the bytes of a file in one of `formats`, or an image that Pillow has opened, which stays
    as it is. Upright by its EXIF orientation, on white where transparent; of an animated file the
    first frame, of an opened image the frame that it stands at. Raises ImageError.
    """
    with _refusals(limits):
        if isinstance(photograph, Image.Image):
            image = photograph
            limits.check(image)
        else:
            image = _opened(photograph, formats)
            limits.check(image)
            if image.format in ("JPEG", "MPO"):  # which shrink while they are decoded
                image.draft(None, (2 * size, 2 * size))
        rgb = to_rgb(image, enough=2 * size)
        # Resizing the centre square alone equals resizing all and cropping, and keeps an image
        # of 1 x 60,000 pixels from growing to 256 x 15 million.
        box = rule.box(*rgb.size, size)
        return rgb.resize((size, size), rule.resampling, box=box)


def _opened(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    if not data:
        raise ImageError("empty", "the file is empty (0 bytes)")
    if too_much := excess(data):
        raise ImageError("too-large", too_much)
    found = known.recognise(data)
    if found == "PNG":
        data = without_profiles(data)
    if found in formats and found != "HEIF":
        formats = (found,)
    else:
        formats = tuple(name for name in formats if name in known.readable())
    try:
        return Image.open(io.BytesIO(data), formats=formats)
    except Image.UnidentifiedImageError:
        pass
    if found in formats:
        raise ImageError(
            "unsupported",
            f"the file begins as {found}, but is cut short or of a kind of {found} that cannot be "
            "read",
        )
    text = f"the file is not an image of a supported format ({', '.join(formats)})"
    if found:
        text += f": it is {found}"
    if found == "HEIF" and found not in known.readable():
        text += f" (HEIC), which can be read after {known.HEIF_REMEDY}"
    raise ImageError("not-an-image", text)


@contextmanager
def pillow_takes(pixels: int) -> Iterator[None]:
    """In a block Pillow, too, takes images of `pixels` and refuses larger ones, in all threads."""
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        Image.MAX_IMAGE_PIXELS = pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


@contextmanager
def _refusals(limits: Limits) -> Iterator[None]:
    """Whatever is raised in a block is raised as an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        # Pillow's own limit, of its own height; by default a warning, up to twice that.
        found = re.search(r"\d+", str(error))  # Pillow tells the size in its text alone
        limit = min(limits.pixels, Image.MAX_IMAGE_PIXELS or limits.pixels)
        raise _too_many("pixels", int(found[0]) if found else None, limit) from error
    except UnknownGreyError as error:
        raise ImageError("unsupported", str(error)) from None
    except MemoryError:
        raise ImageError(
            "too-large", "decoding the image takes more memory than is available"
        ) from None
    except Exception as error:  # decoders of hostile files raise almost anything
        raise _damaged(error) from error


def to_rgb(image: Image.Image, enough: int) -> Image.Image:
    """Any mode -> RGB, upright. More than 8 bits are scaled, transparency falls on white.

    Large images shrink by a whole factor before anything is copied, their short side never below
    `enough` pixels. Raises UnknownGreyError.
    """
    image.load()
    orientation = _orientation(image)
    if fault := tiff.misread(image):
        raise ImageError("unsupported", fault)
    grey = grey_of(image)
    if image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif image.mode == "La":
        image = image.convert("LA")
    elif image.mode == "HSV":
        image = image.convert("RGB")
    elif image.mode.startswith("I;16"):
        image = image.convert("I")
    if (factor := min(image.size) // enough) > 1:
        image = image.reduce(factor)
    if orientation in UPRIGHT:
        image = image.transpose(UPRIGHT[orientation])
    if grey:
        image = grey.scaled(image)
    elif image.mode == "LAB":
        from PIL import ImageCms  # hardly ever needed

        lab, rgb = (ImageCms.createProfile(space) for space in ("LAB", "sRGB"))
        converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
        assert converted is not None  # only where it is done in place
        return converted
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    """1 to 8 as in EXIF; 1 where its EXIF is unreadable, which says nothing about the pixels."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _too_many(what: str, seen: float | None, limit: float) -> ImageError:
    found = "too many" if seen is None else f"{seen:,.15g}"
    text = {
        "pixels": f"the image has {found} pixels",
        "aspect": f"the image's long side is {found} times its short side",
    }[what]
    return ImageError("too-large", f"{text}; the limit is {limit:,.15g}", what, limit, seen)


def _damaged(error: Exception) -> ImageError:
    # Some errors say nothing but by their kind: "stop iteration", "index error".
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    reason = str(error).strip("() ") and str(error)
    return ImageError("damaged", f"the image is damaged or cut short ({reason or kind})")
