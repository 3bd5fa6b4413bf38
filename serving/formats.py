"""The formats of files that the server does not take, so that a refusal can name them."""

import io
import re
from contextlib import suppress

from PIL import Image

from alexnet.pixels import ImageError

SIGNATURES = {
    "HEIC": re.compile(rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", re.DOTALL),
    "JPEG XL": re.compile(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    "SVG": re.compile(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<svg\b", re.DOTALL),
    "PDF": re.compile(rb"%PDF-"),
}
"""{format that is often sent, and Pillow does not read: how its files begin}."""
HEAD_BYTES = 1024


class OtherFormatError(ImageError):
    """An image in a format that Pillow reads and the settings do not allow."""


def named(error: ImageError, data: bytes, formats: tuple[str, ...]) -> ImageError:
    """The refusal of a file that is in none of `formats`, with the format that it is in, where that
    can be told. Opens the file, which may be hostile, with all of Pillow's readers."""
    with suppress(Exception), Image.open(io.BytesIO(data)) as image:
        found = "JPEG" if image.format == "MPO" else image.format or ""  # MPO: JPEGs in one file
        remedy = (
            f"convert it, or start the server with SERVING_FORMATS={','.join((*formats, found))}"
        )
        return OtherFormatError(error.kind, f"{error}: it is {found}; {remedy}")
    for name, begins in SIGNATURES.items():
        if begins.match(data[:HEAD_BYTES]):
            return ImageError(error.kind, f"{error}: it is {name}; convert it")
    return error
