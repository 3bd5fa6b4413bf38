"""What a file may ask of whoever reads it, seen from its length and its bytes before any decoder
takes them. All of it is counted, so that every machine takes and refuses the same files.
"""

import errno
import os
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap
from pathlib import Path

MAX_BYTES = 2**30
"""Largest photograph that is read: 268 million pixels of four bytes."""
MAX_SCANS = 100
"""Scans of a JPEG, each of which goes over all of it. A progressive one has about ten."""
MAX_SCANNED = 4_000_000_000
"""Pixels of a JPEG times its scans. A scan takes up to a nanosecond for a pixel, and hardly a byte
of the file; large images may have fewer of them, those of 50 million pixels 80."""
MAX_SEGMENTS = 500
"""Segments of a JPEG, which Pillow reads in Python; a large colour profile takes 255."""
MAX_JUNK = 1 << 20
"""Bytes between them, of which Pillow looks at each."""
CHUNKS, CHUNK_BYTES = 10_000, 256
"""Chunks of a PNG of any size, and the mean size of all beyond them: Pillow takes some
microseconds, and for a text some hundred bytes of memory, for each, however empty. Encoders write
pieces of 8 KiB or more."""

PNG = b"\x89PNG\r\n\x1a\n"
START, END = b"\xff\xd8", 0xD9
SCAN, SCAN_MARKER = 0xDA, b"\xff\xda"
SEQUENTIAL = {0xC0, 0xC1, 0xC9}
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


@contextmanager
def memory_bounded(more: int) -> Iterator[None]:
    """In a block this process takes up to `more` bytes beyond what it has; MemoryError beyond."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + more
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or bound < soft:
        resource.setrlimit(resource.RLIMIT_AS, (bound, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def excess(data: bytes | mmap) -> str:
    """What of a photograph is more than a decoder is given, in words; empty where nothing is. Most
    files are only looked at where they begin."""
    if data[: len(START)] == START:
        return too_long(len(data)) or _jpeg_excess(data)
    return too_long(len(data)) or (_png_excess(data) if data[: len(PNG)] == PNG else "")


def too_long(size: int) -> str:
    """`excess` of a photograph by its number of bytes alone."""
    return f"the file has {size:,} bytes; the limit is {MAX_BYTES:,}" if size > MAX_BYTES else ""


def _jpeg_excess(data: bytes | mmap) -> str:
    """Walks from marker to marker (ITU-T T.81, annex B) as libjpeg and Pillow do."""
    at, segments, junk, scans, pixels, components = len(START), 0, 0, 0, 0, None
    limit = MAX_SCANS
    while found := (IN_SCAN if scans else MARKER).search(data, at):
        segments += 1
        junk += 0 if scans else found.start() - at
        marker, at = found[1][0], found.end()
        header = data[at : at + 8]
        if marker == END and scans:
            break
        if marker in FRAMES:
            rows, columns = int.from_bytes(header[3:5], "big"), int.from_bytes(header[5:7], "big")
            pixels = max(pixels, rows * columns)
            limit = min(MAX_SCANS, max(1, MAX_SCANNED // max(1, pixels)))
            components = header[7:] if marker in SEQUENTIAL else None
        scans += marker == SCAN
        if scans > limit:
            return f"the JPEG has more than {limit} scans of {pixels:,} pixels; that is the limit"
        if segments > MAX_SEGMENTS or junk > MAX_JUNK:
            return (
                f"the JPEG has more than {MAX_SEGMENTS} segments, or {MAX_JUNK:,} bytes between "
                "them; that is the limit"
            )
        if marker in SEGMENTS:
            at += max(2, int.from_bytes(header[:2], "big"))
        if marker == SCAN and scans == 1 and header[2:3] == components:
            break  # it has all components, and no other scan is read
        if marker == SCAN and not _holds(data, at, limit + 1 - scans):
            break
    return ""


def _png_excess(data: bytes | mmap) -> str:
    """Walks from chunk to chunk (PNG specification, 5.3)."""
    at, chunks, limit = len(PNG), 0, CHUNKS + len(data) // CHUNK_BYTES
    while at < len(data) and data[at + 4 : at + 8] != b"IEND":
        chunks += 1
        if chunks > limit:
            found = f"{limit:,} chunks in {len(data):,} bytes"
            return f"the PNG has more than {found}; that is the limit"
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return ""


def _holds(data: bytes | mmap, at: int, count: int) -> bool:
    """Whether so many bytes look as the beginning of a scan from `at` on."""
    while count and (at := data.find(SCAN_MARKER, at) + 1):
        count -= 1
    return not count
