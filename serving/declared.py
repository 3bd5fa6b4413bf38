"""How large an image is by its file's header, which takes neither a decoder nor its memory."""

import struct
from typing import NamedTuple

from alexnet.bounds import (
    FRAMES,
    MARKER,
    MAX_JUNK,
    MAX_SEGMENTS,
    SCAN,
    SEGMENTS,
    SEQUENTIAL,
    START,
)
from alexnet.formats import FORMATS, UNKNOWN, recognise

SHRINKS = (8, 4, 2)
"""By what libjpeg can divide both sides of a JPEG while it decodes it."""
SHRUNK_EFFORT = 4
"""A pixel of a JPEG that shrinks takes this many times less of a processor than one of a PNG."""


class Declared(NamedTuple):
    """What the header of a JPEG, PNG or WebP says; the decoder may find that it does not hold."""

    format: str
    rows: int
    columns: int
    shrinks: bool = False
    """It need not be decoded whole: a JPEG of one scan."""

    @property
    def pixels(self) -> int:
        return self.rows * self.columns

    @property
    def effort(self) -> int:
        """About how long decoding takes, in pixels of a PNG."""
        return self.pixels // SHRUNK_EFFORT if self.shrinks else self.pixels

    def decoded_bytes(self, size: int) -> int:
        """The most memory that decoding takes on the way to `size` rows and columns."""
        short = min(self.rows, self.columns) // (2 * size) if self.shrinks else 1
        factor = next((factor for factor in SHRINKS if factor <= short), 1)
        return bytes_per_pixel(self.format) * self.pixels // factor**2


def bytes_per_pixel(format: str) -> int:
    """What decoding an image of this format takes at most; of one unknown, the most of all."""
    return FORMATS.get(format, UNKNOWN).bytes_per_pixel


def declared(data: bytes) -> Declared | None:
    """None where the file is none of these, or cut short in its header."""
    try:
        match recognise(data):
            case "JPEG":
                return _jpeg(data)
            case "PNG" if data[12:16] == b"IHDR":
                columns, rows = struct.unpack_from(">II", data, 16)
                return Declared("PNG", rows, columns)
            case "WEBP":
                return _webp(data)
    except (IndexError, struct.error):
        pass
    return None


def _jpeg(data: bytes) -> Declared | None:
    """From marker to marker (ITU-T T.81, annex B), up to the first scan."""
    at, frame = len(START), b""
    for _ in range(MAX_SEGMENTS):
        if not (found := MARKER.search(data, at, at + MAX_JUNK)):
            return None
        marker, at = found[1][0], found.end()
        header = data[at : at + 8]
        if marker in FRAMES and not frame:
            frame, sequential = header, marker in SEQUENTIAL
        if marker == SCAN and frame:
            rows, columns, components = struct.unpack_from(">HHB", frame, 3)
            return Declared("JPEG", rows, columns, sequential and header[2] == components)
        if marker in SEGMENTS:
            at += max(2, int.from_bytes(header[:2], "big"))
    return None


def _webp(data: bytes) -> Declared | None:
    """RFC 9649, sections 2.5 to 2.7."""
    match data[12:16]:
        case b"VP8X":
            columns, rows = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        case b"VP8L":
            (bits,) = struct.unpack_from("<I", data, 21)
            columns, rows = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            columns, rows = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        case _:
            return None
    return Declared("WEBP", rows, columns)
