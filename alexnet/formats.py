"""The formats of image files, each by the name that Pillow has for it: the one list of them."""

import re
from functools import cache
from typing import NamedTuple

from PIL import Image


class Format(NamedTuple):
    begins: bytes
    """How its files begin, as a regular expression."""
    endings: tuple[str, ...] = ()
    """How its files are named: the usual ending first."""
    media_type: str = ""
    bytes_per_pixel: int = 20
    """What decoding takes at most; measured with Pillow 13.0 at 65 million pixels."""


FORMATS = {
    "JPEG": Format(rb"\xff\xd8\xff", ("jpg", "jpeg", "jpe", "jfif", "mpo"), "image/jpeg", 9),
    "PNG": Format(rb"\x89PNG\r\n\x1a\n", ("png", "apng"), "image/png", 9),
    "WEBP": Format(rb"RIFF.{4}WEBP", ("webp",), "image/webp", 18),
    "GIF": Format(rb"GIF8[79]a", ("gif",), "image/gif", 6),
    "BMP": Format(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", ("bmp", "dib"), "image/bmp", 5),
    "TIFF": Format(rb"II[*+]\0|MM\0[*+]", ("tif", "tiff"), "image/tiff", 9),
    "AVIF": Format(
        rb".{4}ftyp(avi[fs]|m[is]f1(.{4}){1,12}?avi[fs])", ("avif", "avifs"), "image/avif", 12
    ),
    "HEIF": Format(
        rb".{4}ftyp(hei[cmsx]|hev[cmsx]|m[is]f1)", ("heic", "heif", "hif"), "image/heif", 12
    ),
    "JPEG2000": Format(
        rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
        ("jp2", "j2k", "jpx", "j2c", "jpc", "jpf"),
        "image/jp2",
        20,
    ),
    "PPM": Format(rb"P[1-6]\s", ("ppm", "pgm", "pbm", "pnm"), "image/x-portable-anymap", 9),
}
"""Those that are decoded wherever nothing narrower is said; HEIF where `pillow-heif` is there."""

NEVER = {
    "ICO": Format(rb"\x00\x00\x01\x00"),
    "PSD": Format(rb"8BPS"),
    "JPEG XL": Format(rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n"),
    "SVG": Format(rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<svg\b"),
    "PDF": Format(rb"%PDF-"),
}
"""Others that people send, so that a refusal can name them; some can be allowed to a server."""
UNKNOWN = Format(b"")
"""What is known of a format that is in neither."""

USUAL_ENDINGS = tuple(format.endings[0] for format in FORMATS.values())
ENDINGS = tuple(ending for format in FORMATS.values() for ending in format.endings)

HEAD_BYTES = 1024
"""As much of a file as is looked at to tell its format."""
HEIF_REMEDY = "`pip install pillow-heif`"


def recognise(data: bytes) -> str:
    """The format of a file by how it begins; empty where that tells none."""
    head = data[:HEAD_BYTES]
    for name, format in (FORMATS | NEVER).items():
        if re.match(format.begins, head, re.DOTALL):
            return name
    return ""


@cache
def readable() -> frozenset[str]:
    """All formats that Pillow reads here, with what `pillow-heif` adds where it is installed."""
    Image.init()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        pass
    else:
        register_heif_opener()
    return frozenset(Image.OPEN)
