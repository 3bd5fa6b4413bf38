"""Files that somebody else wrote: regular ones, of a bounded length, and JSON that says one thing.

Symbolic links are followed, since volumes of containers are made of them; what they lead to counts.
"""

import errno
import fcntl
import json
import os
import shutil
import stat
from io import BufferedReader
from math import inf
from pathlib import Path
from typing import Any

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def open_regular(path: Path, most: float = inf) -> BufferedReader:
    """Open a regular file of at most `most` bytes for reading.

    Raises OSError. Nobody is waited for, as at a named pipe, and no device is touched.
    """
    _check(path, path.stat(), most)
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        _check(path, os.fstat(file.fileno()), most)  # another one may have taken its place
    except OSError:
        file.close()
        raise
    return file


def read(path: Path, most: int) -> bytes:
    """The bytes of a regular file, `most` of them or fewer. Raises OSError, also for more."""
    with open_regular(path, most) as file:
        data = file.read(most + 1)
    if len(data) > most:  # it has grown
        raise _too_large(path, len(data), most)
    return data


def private_copy(file: BufferedReader) -> BufferedReader:
    """A copy in memory that nobody can change: mapped, it does not end the process where the file
    is cut short, as the file itself would. Raises OSError."""
    descriptor = os.memfd_create("copy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    copy = os.fdopen(descriptor, "rb")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as written:
            shutil.copyfileobj(file, written, 1 << 20)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
        copy.seek(0)
    except OSError:
        copy.close()
        raise
    return copy


def parsed(data: bytes) -> Any:
    """What JSON says. Raises ValueError, also where a key is given twice, and for numbers that are
    not finite: programs differ in what they make of these."""
    try:
        return json.loads(
            data, object_pairs_hook=_object, parse_constant=_constant, parse_float=_number
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _check(path: Path, status: os.stat_result, most: float) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a directory" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise OSError(errno.EINVAL, f"this is {kind}, not a regular file", str(path))
    if status.st_size > most:
        raise _too_large(path, status.st_size, most)


def _too_large(path: Path, size: int, most: float) -> OSError:
    return OSError(errno.EFBIG, f"it has {size:,} bytes; the limit is {most:,}", str(path))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name[:80]!r} is given twice")
        found[name] = value
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a finite number")


def _number(text: str) -> float:
    if (number := float(text)) in (inf, -inf):
        raise ValueError(f"{text[:80]} is not a finite number")
    return number
