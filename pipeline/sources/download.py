"""Files from the net: resumed where they stopped, used only if they are the right ones."""

import fcntl
import hashlib
import os
import shutil
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from pipeline.manifest import DatasetError
from pipeline.progress import ProgressBar

TIMEOUT_S = 30.0
CHUNK = 1 << 18  # bytes


class Remote(NamedTuple):
    """A file on a server."""

    url: str
    size: int
    """Bytes."""
    sha256: str


def unpacked(archive: Remote, folder: Path) -> Path:
    """`folder`, from the tar archive that holds a folder of this name; fetched if not there yet.

    Whoever wants the same meanwhile, in this process or another, waits. Raises DatasetError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f"{folder.name}.lock")):
        if not folder.exists():
            file = folder.with_name(archive.url.rpartition("/")[2])
            download(archive, file)
            _unpack(file, folder)
            file.unlink()
    return folder


def download(remote: Remote, path: Path, pauses_s: Sequence[float] = (1, 2, 4, 8)) -> None:
    """Fetch a file to `path`, where it appears only whole; one that was put there is taken if it is
    the right one.

    What an earlier call got is not fetched again; when the connection breaks, the rest is asked for
    again after each of `pauses_s`. Whether it is the rest of the same file, the SHA-256 tells. For
    one caller at a time. Raises DatasetError.
    """
    if path.exists():
        if (sha256 := _sha256(path)) != remote.sha256:
            raise DatasetError(
                f"{path}: the SHA-256 is {sha256}, not {remote.sha256}: this is not the file of "
                f"{remote.url}; remove it, and run the same command to fetch that"
            )
        return
    partial = path.with_name(f"{path.name}.partial")
    pauses = iter(pauses_s)
    with (
        partial.open("ab") as file,
        ProgressBar(path.name, remote.size, "bytes", done=file.tell()) as progress,
    ):
        while file.tell() != remote.size:
            try:
                _append(remote, file, progress)
            except (OSError, HTTPException) as error:
                pause_s = next(pauses, None)
                if pause_s is None or _is_final(error):
                    raise DatasetError(
                        f"{remote.url}: {error} ({file.tell():,} of {remote.size:,} bytes have "
                        "arrived); check the connection and run the same command again, which "
                        f"fetches the rest, or put a copy from elsewhere at {path}, with the "
                        f"SHA-256 {remote.sha256}"
                    ) from None
                time.sleep(pause_s)
        file.flush()
        os.fsync(file.fileno())
    if (sha256 := _sha256(partial)) != remote.sha256:
        partial.unlink()
        raise DatasetError(
            f"{remote.url}: the SHA-256 is {sha256}, not {remote.sha256}: the file was damaged or "
            "replaced on its way and has been removed; run the same command to fetch it again"
        )
    partial.replace(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _append(remote: Remote, file: BinaryIO, progress: ProgressBar) -> None:
    """Ask for what `file` lacks; starts it over if the server has only the whole."""
    request = Request(remote.url, headers={"Range": f"bytes={file.tell()}-"})
    try:
        response = urlopen(request, timeout=TIMEOUT_S)
    except HTTPError as error:
        error.close()
        if error.code == 416:
            _empty(file, progress)
        raise
    with response:
        if response.status != 206:
            _empty(file, progress)
        length = response.headers["Content-Length"]
        if length and (size := file.tell() + int(length)) != remote.size:
            _empty(file, progress)
            Path(file.name).unlink()
            raise DatasetError(
                f"{remote.url}: the server has {size:,} bytes, not {remote.size:,}: another file, "
                "or a notice in its place; open the address in a browser"
            )
        # read1 hands over what has come; read would lose it when the connection breaks meanwhile.
        while chunk := response.read1(min(CHUNK, remote.size - file.tell())):
            file.write(chunk)
            progress.advance(len(chunk))
    if file.tell() < remote.size:
        raise ConnectionError("the connection closed early")


def _empty(file: BinaryIO, progress: ProgressBar) -> None:
    progress.advance(-file.tell())
    file.seek(0)
    file.truncate()


def _is_final(error: Exception) -> bool:
    """Whether asking again is of no use: not while a server is busy, nor after starting over."""
    return isinstance(error, HTTPError) and error.code < 500 and error.code not in (408, 416, 429)


def _unpack(archive: Path, folder: Path) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(archive) as tar:
        # Python 3.11 has filters only from its fifth release on.
        tar.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        tar.extractall(partial)
    os.sync()  # the files reach the disk before the name that says they are there
    (partial / folder.name).rename(folder)
    partial.rmdir()


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """One at a time; a killed process lets go."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
