"""Tar archives read in place: where their members lie, and a reader of those places."""

import tarfile
from pathlib import Path
from typing import NamedTuple

from pipeline.manifest import DatasetError
from pipeline.sources.source import regular_status


class Member(NamedTuple):
    """A regular file in an archive: `size` bytes from `offset` of `archive`."""

    name: str
    archive: Path
    offset: int
    size: int

    @property
    def location(self) -> str:
        return f"{self.archive}:{self.offset}:{self.size}"


class Members:
    """Reads members of archives; a location is ARCHIVE:OFFSET:SIZE, in bytes."""

    def read(self, location: str) -> bytes:
        archive, offset, size = location.rsplit(":", 2)
        with Path(archive).open("rb") as file:
            file.seek(int(offset))
            data = file.read(int(size))
        if len(data) < int(size):
            raise OSError(
                f"{archive}: the file ends after {len(data)} of the {size} bytes at {offset}"
            )
        return data

    def stamp(self, location: str) -> str:
        archive, offset, size = location.rsplit(":", 2)
        status = Path(archive).stat()
        return f"{status.st_size} {status.st_mtime_ns} {offset}:{size}"


def list_members(archive: Path) -> list[Member]:
    """The regular files in an uncompressed tar, in its order. Raises DatasetError.

    Of two members of one name the later counts, as when unpacking.
    """
    try:
        size = regular_status(archive).st_size
    except OSError as error:
        raise DatasetError(_broken(str(archive), str(error.strerror))) from None
    return _list(archive, 0, size, str(archive))


def list_nested(tar: Member) -> list[Member]:
    """The regular files in a tar that is itself a member of one; offsets are the outer file's."""
    return _list(tar.archive, tar.offset, tar.offset + tar.size, f"{tar.archive}, {tar.name}")


def _list(archive: Path, start: int, end: int, name: str) -> list[Member]:
    try:
        with archive.open("rb") as file:
            file.seek(start)
            tar = tarfile.TarFile(fileobj=file)
            headers = tar.getmembers()
            # tarfile takes a broken header, or the file's end, for the end of the archive.
            file.seek(tar.offset)
            end_mark = file.read(tarfile.BLOCKSIZE)
    except (tarfile.TarError, ValueError, OverflowError, OSError) as error:
        raise DatasetError(_broken(name, str(error))) from None
    # An inner tar that is cut short runs on into the members that follow it in the outer one.
    if tar.offset + tarfile.BLOCKSIZE > end:
        raise DatasetError(_broken(name, f"it is cut short: no end mark in {end - start:,} bytes"))
    if any(end_mark):
        raise DatasetError(_broken(name, f"no member's header at byte {tar.offset:,}"))
    files = {header.name: header for header in headers if header.isreg()}
    return [Member(name, archive, f.offset_data, f.size) for name, f in files.items()]


def _broken(name: str, reason: str) -> str:
    return f"{name}: this is not a complete tar archive ({reason}); download or copy it again"
