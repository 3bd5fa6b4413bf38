"""The formats of files that the server does not take, so that a refusal can name them."""

import re

from PIL import Image

from alexnet.pixels import ImageError

READABLE = {
    "GIF": rb"GIF8[79]a",
    "BMP": rb"BM.{4}\0\0\0\0",
    "TIFF": rb"II\*\0|MM\0\*",
    "ICO": rb"\x00\x00\x01\x00",
    "PPM": rb"P[1-6]\s",
    "PSD": rb"8BPS",
    "JPEG2000": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "AVIF": rb".{4}ftypavi[fs]",
    "JPEG": rb"\xff\xd8\xff",
    "PNG": rb"\x89PNG\r\n",
    "WEBP": rb"RIFF.{4}WEBP",
}
"""{format, as Pillow names it: how its files begin}, of those that a setting may allow. No more of
a file is looked at: what reads formats that are not allowed is no business of its sender."""
OTHERS = {
    "HEIC": rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "SVG": rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<svg\b",
    "PDF": rb"%PDF-",
}
"""{format that is often sent, and Pillow does not read: how its files begin}."""
HEAD_BYTES = 1024


class OtherFormatError(ImageError):
    """An image in a format that Pillow reads and the settings do not allow."""


def named(error: ImageError, data: bytes, formats: tuple[str, ...]) -> ImageError:
    """The refusal of a file that is in none of `formats`, with the format that it is in, where that
    can be told by how it begins."""
    Image.init()  # else Pillow has not loaded what it knows
    head = data[:HEAD_BYTES]
    for name, begins in (READABLE | OTHERS).items():
        if name in formats or not re.match(begins, head, re.DOTALL):
            continue
        if name in READABLE and name in Image.OPEN:
            allowed = ",".join((*formats, name))
            remedy = f"convert it, or start the server with SERVING_FORMATS={allowed}"
            return OtherFormatError(error.kind, f"{error}: it is {name}; {remedy}")
        return ImageError(error.kind, f"{error}: it is {name}; convert it")
    return error
