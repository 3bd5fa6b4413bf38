"""Compressed tars. Their members are read in any order, which only a plain one allows: each is
decompressed once, into the user's cache."""

import bz2
import gzip
import hashlib
import lzma
import os
import re
import shutil
import zlib
from pathlib import Path
from uuid import uuid4

from alexnet import atomic
from alexnet.cache import cache_folder
from pipeline.manifest import DatasetError
from pipeline.sources.source import regular_status

NAMED = re.compile(r"(.+?)\.(tar\.(gz|bz2|xz|zst|lz4)|tgz|tbz2?|txz|tzst)", re.IGNORECASE)
"""Names of compressed tars; the group is the name without its ending."""
READ = (
    (b"\x1f\x8b", gzip.GzipFile),
    (b"BZh", bz2.BZ2File),
    (b"\xfd7zXZ\0", lzma.LZMAFile),
)
"""First bytes, and what decompresses what begins so."""
NOT_READ = (
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
CHUNK = 1 << 20  # bytes


def is_compressed(path: Path) -> bool:
    """Whether a file has the name of a compressed tar."""
    return NAMED.fullmatch(path.name) is not None


def stem(path: Path) -> str:
    """The name of a tar without its ending, or that of its compression."""
    name = NAMED.fullmatch(path.name)
    return name[1] if name else path.stem


def plain(archive: Path) -> Path:
    """The tar itself where its first bytes are no compression's, else what it is decompressed to,
    a tar of the same age. Raises DatasetError."""
    try:
        status = regular_status(archive)
        with archive.open("rb") as file:
            first = file.read(8)
    except OSError as error:
        raise DatasetError(
            f"{archive}: cannot be read ({error.strerror}); make it readable, or move it elsewhere"
        ) from None
    for mark, tool in NOT_READ:
        if first.startswith(mark):
            raise DatasetError(
                f"{archive}: the shard is compressed with {tool}, which is not read here; "
                f"decompress it: `{tool} -d {archive}`"
            )
    opened = next((opened for mark, opened in READ if first.startswith(mark)), None)
    if opened is None:
        return archive
    place = f"{archive.absolute()} {status.st_size} {status.st_mtime_ns}"
    folder = cache_folder() / "shards" / hashlib.sha256(os.fsencode(place)).hexdigest()[:16]
    target = folder / f"{stem(archive)}.tar"
    if not target.exists():
        _decompress(archive, opened, target)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    return target


def _decompress(archive: Path, opened: type, target: Path) -> None:
    partial = target.with_name(f".{target.name}.{uuid4().hex}{atomic.PARTIAL}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with opened(archive) as content, partial.open("wb") as file:
            shutil.copyfileobj(content, file, CHUNK)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if not isinstance(error, OSError) or error.errno is None:  # what is read, not the disk
            raise DatasetError(
                f"{archive}: the file is damaged or cut short ({error}); download or copy it again"
            ) from None
        raise DatasetError(
            f"{target}: cannot be written ({error.strerror}); free some disk space, or let "
            "XDG_CACHE_HOME name a folder with more"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
