"""From any photograph to what the network sees; the one way, for packing and for serving.

Shapes: N pictures, V views, C channels, H rows, W columns, S rows and columns of a whole picture.
"""

import io
import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SIZE = 256
"""Rows and columns of a whole picture at full size (§2)."""

MAX_PIXELS = 50_000_000
"""Largest width x height that is decoded; a small file can declare far more than memory holds."""

FILTER = Image.Resampling.BICUBIC
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

# Pillow checks the header against its limit, but only warns up to twice that.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)

Refusal = Literal["empty", "not-an-image", "too-large", "damaged"]


class PictureError(ValueError):
    """Bytes that are no picture we can use. `kind` is for programs, the text for people."""

    def __init__(self, kind: Refusal, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def whole_picture(data: bytes, size: int = SIZE, formats: tuple[str, ...] = FORMATS) -> np.ndarray:
    """File bytes -> RGB (size, size, 3) uint8: short side scaled to `size`, centre kept (§2).

    Upright by its EXIF orientation, on white where transparent, first frame of an animation.
    Raises PictureError.
    """
    if not data:
        raise PictureError("empty", "the file is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Image.UnidentifiedImageError:
        allowed = ", ".join(formats)
        raise PictureError("not-an-image", f"not a picture in one of {allowed}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError("too-large", f"too many pixels ({error})") from error
    except Exception as error:  # decoders of hostile files raise almost anything
        raise _damaged(error) from error
    try:
        # Large JPEGs decode at a half, quarter or eighth, never below twice what is kept.
        image.draft(None, (2 * size, 2 * size))
        rgb = to_rgb(image)
        short = min(rgb.size)
        left, top = (rgb.width - short) / 2, (rgb.height - short) / 2
        # Resizing the centre square alone equals resizing all and cropping, and keeps a picture
        # of 1 x 60,000 pixels from growing to 256 x 15 million.
        box = (left, top, left + short, top + short)
        return np.array(rgb.resize((size, size), FILTER, box=box))
    except Exception as error:  # as above
        raise _damaged(error) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Any mode -> RGB, upright. 16 bits are scaled, transparency falls on white."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I"):  # 16-bit gray; Pillow's own conversion clips it to white
        image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def centre(side: int, crop: int) -> int:
    """First row (and column) of the centre crop: 16 for 224 of 256."""
    return (side - crop) // 2


def ten_views(picture_N3SS: Tensor, crop: int) -> Tensor:
    """Four corners and the centre, then their mirrors (§4.1, convdata_jpeg.py).

    (N, 3, S, S) -> (N, 10, 3, crop, crop).
    """
    last = picture_N3SS.shape[-1] - crop
    middle = centre(picture_N3SS.shape[-1], crop)
    corners = ((0, 0), (0, last), (middle, middle), (last, 0), (last, last))
    views = [picture_N3SS[..., y : y + crop, x : x + crop] for y, x in corners]
    return torch.stack(views + [view.flip(-1) for view in views], dim=1)


def one_view(picture_N3SS: Tensor, crop: int) -> Tensor:
    """The centre: (N, 3, S, S) -> (N, 1, 3, crop, crop)."""
    start = centre(picture_N3SS.shape[-1], crop)
    return picture_N3SS[:, None, :, start : start + crop, start : start + crop]


def centre_mean(mean_SS3: np.ndarray, crop: int) -> Tensor:
    """The part of the mean picture subtracted from every crop, wherever cut, never mirrored.

    (S, S, 3) float32 -> (3, crop, crop) float32. As released (convdata_jpeg.py).
    """
    return one_view(torch.from_numpy(mean_SS3).permute(2, 0, 1)[None], crop)[0, 0].contiguous()


def probabilities(
    model: Callable[[Tensor], Tensor], picture_N3SS: Tensor, mean_3HW: Tensor, views: int
) -> Tensor:
    """Mean of the softmax over one or ten views (§4.1): (N, 3, S, S) uint8 -> (N, K).

    Probabilities are averaged, not logits; one forward pass for all views of all pictures.
    """
    crop = mean_3HW.shape[-1]
    cut = ten_views if views == 10 else one_view
    view_NV3HW = cut(picture_N3SS, crop)
    image_M3HW = view_NV3HW.flatten(0, 1).to(memory_format=torch.channels_last) - mean_3HW
    probability_MK = model(image_M3HW).float().softmax(dim=1)
    return probability_MK.unflatten(0, view_NV3HW.shape[:2]).mean(dim=1)


def _damaged(error: Exception) -> PictureError:
    return PictureError("damaged", f"the picture is damaged or cut short ({error})")
