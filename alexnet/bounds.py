"""What a file may ask of whoever reads it, seen from its length and its bytes before any decoder
takes them. All of it is counted, so that every machine takes and refuses the same files.
"""

import errno
import os
import re
import stat
from pathlib import Path

MAX_BYTES = 500_000_000
"""Largest photograph that is read; 50 million pixels of four 16-bit channels have 400 million."""
MAX_SCANS = 100
"""Scans of a JPEG: each goes over all of the image. Encoders write one, or for a progressive image
about ten."""
MAX_SCANNED = 2_500_000_000
"""Pixels of a JPEG times its scans: one takes a nanosecond, where no byte of the file is spent on
it. Fewer scans of a large image, as many as 50 of 50 million pixels."""
MAX_SEGMENTS = 500
"""Segments of a JPEG, which Pillow reads in Python; a large colour profile takes 255."""
MAX_JUNK = 1 << 20
"""Bytes between them, of which Pillow looks at each."""

START, END = b"\xff\xd8", 0xD9
SCAN, SCAN_MARKER = 0xDA, b"\xff\xda"
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
SEGMENTS = {*range(0xC0, 0xC8), *range(0xC9, 0xD0), *range(0xDA, 0xDE), *range(0xE0, 0xF0), 0xFE}
"""Markers that a length follows; the others stand alone."""
MARKER = re.compile(rb"\xff([\xc0-\xfe])")
IN_SCAN = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
"""The same but for those at which a scan goes on after damage."""


def read_at_most(path: Path, limit: int) -> bytes:
    """The bytes of a file, up to `limit` of them. Raises OSError, also where there are more."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        data = file.read(limit + 1) if size <= limit else b""
    if size > limit or len(data) > limit:
        found = f"{size:,}" if size > limit else "more"
        raise OSError(errno.EFBIG, f"it has {found} bytes; the limit is {limit:,}", str(path))
    return data


def excess(data: bytes) -> str:
    """What of a photograph is more than a decoder is given, in words; empty where nothing is."""
    return too_long(len(data)) or (_jpeg_excess(data) if data.startswith(START) else "")


def too_long(size: int) -> str:
    """`excess` of a photograph by its number of bytes alone."""
    return f"the file has {size:,} bytes; the limit is {MAX_BYTES:,}" if size > MAX_BYTES else ""


def _jpeg_excess(data: bytes) -> str:
    """Walks from marker to marker (ITU-T T.81, annex B) as libjpeg and Pillow do."""
    at, segments, junk, scans, pixels = len(START), 0, 0, 0, 0
    limit = MAX_SCANS
    while found := (IN_SCAN if scans else MARKER).search(data, at):
        segments += 1
        junk += 0 if scans else found.start() - at
        marker, at = found[1][0], found.end()
        if marker == END and scans:
            break
        if marker in FRAMES:
            rows, columns = data[at + 3 : at + 5], data[at + 5 : at + 7]
            pixels = max(pixels, int.from_bytes(rows, "big") * int.from_bytes(columns, "big"))
            limit = min(MAX_SCANS, max(1, MAX_SCANNED // max(1, pixels)))
        scans += marker == SCAN
        if scans > limit:
            return f"the JPEG has more than {limit} scans of {pixels:,} pixels; that is the limit"
        if segments > MAX_SEGMENTS or junk > MAX_JUNK:
            return (
                f"the JPEG has more than {MAX_SEGMENTS} segments, or {MAX_JUNK:,} bytes between "
                "them; that is the limit"
            )
        if marker in SEGMENTS:
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
        if marker == SCAN and scans + data.count(SCAN_MARKER, at) <= limit:
            break  # not even bytes that look like scans would be too many
    return ""
