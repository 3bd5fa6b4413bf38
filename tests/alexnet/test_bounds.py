"""What a file asks for, counted before it is decoded."""

import io
import os
import struct
import threading
from mmap import ACCESS_READ, mmap
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from PIL import Image

from alexnet.bounds import (
    MAX_BYTES,
    MAX_JUNK,
    MAX_SCANNED,
    MAX_SCANS,
    MAX_SEGMENTS,
    excess,
    read_at_most,
    too_long,
)
from alexnet.pixels import ImageError, whole_image


def written(progressive: bool = True, side: int = 16, **options: object) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(file, "JPEG", progressive=progressive, **options)
    return file.getvalue()


def last_scan(data: bytes) -> bytes:
    return data[data.rindex(b"\xff\xda") : -2]


def with_scans(count: int, rows: int = 16, columns: int = 16, between: bytes = b"") -> bytes:
    """A progressive JPEG of so many scans, and as large by its header."""
    data = written()
    start = data.index(b"\xff\xc2") + 5
    data = data[:start] + struct.pack(">HH", rows, columns) + data[start + 4 :]
    more = count - data.count(b"\xff\xda")
    return data[:-2] + (between + last_scan(data)) * more + b"\xff\xd9"


def in_scans(count: int) -> bytes:
    """A sequential JPEG with a scan for each component, the last of them again and again."""
    data = written(progressive=False)
    start = data.index(b"\xff\xda")
    one = b"\xff\xda\0\x08\x01%c\0\0\x3f\0"
    return data[:start] + b"".join(one % n for n in (1, 2, *(3,) * (count - 2))) + b"\xff\xd9"


def with_segments(segment: bytes, count: int) -> bytes:
    data = written(progressive=False)
    return data[:2] + segment * count + data[2:]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))


def with_chunks(piece: bytes, count: int) -> bytes:
    """A PNG with so many more chunks before its image."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PNG")
    data, at = file.getvalue(), 33  # behind the signature and IHDR
    return data[:at] + piece * count + data[at:]


LARGE = (7000, 7000)
LARGE_SCANS = MAX_SCANNED // (LARGE[0] * LARGE[1])


@pytest.mark.parametrize(
    "data",
    [
        with_scans(MAX_SCANS),
        with_scans(LARGE_SCANS, *LARGE),
        with_scans(14, 16_384, 16_384),
        with_segments(b"\xff\xe1\0\x04ab", MAX_SEGMENTS - 20),
        with_segments(b"\xff\xe1\0\x04\xff\xda", 300),  # no scans: bytes of a segment
        written(progressive=False) + b"\xff\xda\0\x08" * 5000,  # behind the end, as a film is
        with_segments(b"\xff", 2000),
        written(progressive=False, side=500, quality=100),
        written(progressive=False, restart_marker_blocks=1, side=500),
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0\0",
        b"\x89PNG" + b"\xff\xda\0\x08" * 5000,
        with_chunks(chunk(b"tEXt", b"a\0b"), 900),
        with_chunks(chunk(b"abCd", bytes(500)), 20_000),
        with_chunks(b"", 0) + chunk(b"abCd") * 5000,  # behind the end
        b"\x89PNG\r\n\x1a\n" + b"\0" * 1000,
    ],
)
def test_what_encoders_write_is_taken(data: bytes) -> None:
    assert excess(data) == ""


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (with_scans(MAX_SCANS + 1), "more than 100 scans of 256 pixels"),
        (with_scans(60_000), "more than 100 scans of 256 pixels"),
        (with_scans(LARGE_SCANS + 1, *LARGE), "more than 81 scans of 49,000,000 pixels"),
        (in_scans(101), "more than 100 scans"),
        (with_scans(101, between=b"\xff\xfe\0\x04\xff\xd9"), "more than 100 scans"),
        (with_scans(101, between=b"\0\xff\0\xff\xd0"), "more than 100 scans"),
        (with_scans(400, between=b"\xff\xc4\0\x02" * 9), "more than 500 segments"),
        (with_segments(b"\xff\xe1\0\x04ab", MAX_SEGMENTS + 1), "more than 500 segments"),
        (with_segments(b"\xff\xd9", MAX_SEGMENTS + 1), "more than 500 segments"),
        (with_segments(b"\xff\xd8\0\xff", MAX_SEGMENTS + 1), "more than 500 segments"),
        (with_segments(b"\xff", MAX_JUNK + 2), "1,048,576 bytes between them"),
        (with_segments(b"\xff\0", MAX_JUNK), "1,048,576 bytes between them"),
        *(
            (with_chunks(chunk(kind), 20_000), "more than 10,937 chunks in 240,")
            for kind in (b"abCd", b"tEXt", b"IDAT", b"gAMA")
        ),
        (with_chunks(chunk(b"tEXt", b"a\0b"), 20_000), "chunks in 300,"),
    ],
)
def test_what_takes_a_decoder_long_is_refused(data: bytes, text: str) -> None:
    assert text in excess(data)
    with pytest.raises(ImageError, match=text) as refused:
        whole_image(data)
    assert refused.value.kind == "too-large"


def test_as_many_scans_as_are_allowed_are_decoded() -> None:
    assert whole_image(with_scans(MAX_SCANS)).shape == (256, 256, 3)


def test_after_a_scan_of_all_components_no_other_is_read() -> None:
    """So that those need not be counted: libjpeg refuses the second."""
    data = written(progressive=False, side=64)
    again = data[:-2] + last_scan(data) * 200 + b"\xff\xd9"
    assert excess(again) == ""
    with pytest.raises(ImageError, match="broken data stream"):
        whole_image(again)


def test_a_mapped_file_is_the_same_as_its_bytes(tmp_path: Path) -> None:
    for data in (with_scans(101), with_scans(100), written(), in_scans(101), b"\xff\xd8"):
        path = tmp_path / "x.jpg"
        path.write_bytes(data)
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            assert excess(mapped) == excess(data)


def test_photographs_are_taken(test_data: Path) -> None:
    files = [*(test_data / "imagenet-originals").iterdir(), *(test_data / "imagenette").rglob("*")]
    files += (test_data / "exif-orientation").iterdir()
    files = [path for path in files if path.is_file()]
    assert len(files) > 50
    for path in files:
        assert excess(path.read_bytes()) == "", path


def test_the_length_of_a_file_is_bounded(tmp_path: Path) -> None:
    assert too_long(MAX_BYTES) == ""
    assert too_long(MAX_BYTES + 1) == "the file has 1,073,741,825 bytes; the limit is 1,073,741,824"
    path = tmp_path / "hole"
    path.write_bytes(b"abc")
    assert read_at_most(path, 3) == b"abc"
    with pytest.raises(OSError, match="it has 3 bytes; the limit is 2"):
        read_at_most(path, 2)
    os.truncate(path, 10**11)
    with pytest.raises(
        OSError, match="it has 100,000,000,000 bytes; the limit is 1,000"
    ) as refused:
        read_at_most(path, 1000)
    assert refused.value.filename == str(path)
    with pytest.raises(OSError, match="it has more bytes; the limit is 1,000"):
        read_at_most(Path("/dev/zero"), 1000)


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(b"abc" * 1000,))
    writer.start()
    assert read_at_most(path, 3000) == b"abc" * 1000
    writer.join()
