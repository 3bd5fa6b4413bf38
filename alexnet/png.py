"""PNG files without what says nothing about their pixels."""

import zlib
from itertools import pairwise

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
TURNING = (b"Raw profile type exif", b"XML:com.adobe.xmp")
"""Keywords of the texts that may hold an orientation."""
MAX_TEXT_BYTES = 2**20
"""Unpacked, all texts together: as much as Pillow takes of one."""


def without_profiles(data: bytes) -> bytes:
    """The PNG file without its colour profile and its texts, but for those that may turn it.

    Pillow unpacks them all and refuses the file where one is larger than 1 MiB. What is damaged
    stays, so that it is found.
    """
    view, start, left = memoryview(data), len(SIGNATURE), MAX_TEXT_BYTES
    cuts = [0]
    while start + 12 <= len(data):
        end = start + 12 + int.from_bytes(view[start : start + 4])
        name = bytes(view[start + 4 : start + 8])
        if name == b"iCCP" or name in TEXTS:
            sound = zlib.crc32(view[start + 4 : end - 4]) == int.from_bytes(view[end - 4 : end])
            size = _turning(name, bytes(view[start + 8 : end - 4]), left)
            left -= min(size, left)
            if sound and end <= len(data) and (size == 0 or left == 0):
                cuts += start, end
        start = end
    if len(cuts) == 1:
        return data
    cuts.append(len(data))
    return b"".join(view[a:b] for a, b in list(pairwise(cuts))[::2])


def _turning(name: bytes, content: bytes, most: int) -> int:
    """The unpacked bytes of a text that may hold an orientation, at most `most`; 0 of others."""
    keyword, _, rest = content.partition(b"\0")
    if name == b"iCCP" or keyword not in TURNING:
        return 0
    if name == b"tEXt":
        return min(len(rest), most)
    if name == b"zTXt":
        packed, rest = True, rest[1:]
    else:
        packed = rest[:1] == b"\x01"
        rest = rest[2:].partition(b"\0")[2].partition(b"\0")[2]
    if not packed:
        return min(len(rest), most)
    try:
        return len(zlib.decompressobj().decompress(rest, max(most, 1)))
    except zlib.error:
        return 0
