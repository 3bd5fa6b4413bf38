"""Grey in more than 8 bits: which of its numbers are black and white."""

from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from alexnet.tiff import Tag

SIXTEEN_BITS = 2**16 - 1


class UnknownGreyError(ValueError):
    """An image that does not tell which of its numbers are black and white."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the image does not tell which grey is black and which white: {found}")


class Grey(NamedTuple):
    """The numbers of an image that are black and white."""

    black: float
    white: float

    def scaled(self, image: Image.Image) -> Image.Image:
        """Mode I or F -> L. Raises UnknownGreyError where there is something else than numbers."""
        level_HW = np.asarray(image, np.float64)
        if np.isnan(level_HW).any():
            raise UnknownGreyError("some pixels are no numbers (NaN)")
        level_HW = 255 * (level_HW - self.black) / (self.white - self.black)
        return Image.fromarray(level_HW.round().astype(np.uint8))


def grey_of(image: Image.Image) -> Grey | None:
    """None for an image in 8 bits or in colour.

    16 bits, and 12 of a TIFF, go from 0 to the most that they hold. Floats go from 0 to 1. Integers
    of 32 bits are taken for those of 16, unless they may as well have 8. Raises UnknownGreyError
    for all others.
    """
    if not image.mode.startswith(("I", "F")):
        return None
    tags = getattr(image, "tag_v2", {})
    white = SIXTEEN_BITS
    if image.mode.startswith("I;16"):
        white = 2 ** tags.get(Tag.BITS, (16,))[0] - 1  # Pillow leaves 12 bits as they are
    else:
        low, high = cast(tuple[float, float], image.getextrema())
        if image.mode == "F":
            white = 1
            if not (low >= 0 and high <= 1):
                raise UnknownGreyError(f"floats from {low:g} to {high:g}; only 0 to 1 is known")
        elif image.format != "PPM" and not low == high == 0:  # whose files say what is white
            signed = tags.get(Tag.BITS) == (16,)
            if signed or not (low >= 0 and 255 < high <= SIXTEEN_BITS):
                raise UnknownGreyError(
                    f"{'signed' if signed else '32-bit'} integers from {low:,} to {high:,}; "
                    "save it in 8 or 16 bits without a sign"
                )
    return Grey(white, 0) if tags.get(Tag.WHITE) == 0 else Grey(0, white)
