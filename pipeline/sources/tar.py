"""Tar archives read in place: where their members lie, and a reader of those places."""

import posixpath
import re
import tarfile
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple, Self, cast

from pipeline.manifest import DatasetError
from pipeline.sources.source import check_size, regular_status

LONGEST = 1 << 20
"""Bytes of a name, or of the records of one member."""
EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
"""Types of headers that tell more of the next member."""
SPARSE = "GNU.sparse."
DIGITS = re.compile(rb"[0-9]{300}")
"""More than a name or a length of records has."""
OF_ONE = {"path", "linkpath", "size"}
"""Records that cannot be common to all members."""
MOST_LINKS = 40
"""Symbolic links, one leading to the next, that are followed; as by Linux."""
SHOWN = 100
"""Characters of a name that are repeated to the user."""


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
        check_size(int(size))
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


class Place(NamedTuple):
    """Where the bytes of a member are in a file."""

    offset: int
    size: int


def list_members(archive: Path) -> list[Member]:
    """The regular files in an uncompressed tar, in its order. Raises DatasetError.

    As when unpacking, the later of two members of one name counts, and a link is the file of the
    archive that it leads to.
    """
    try:
        size = regular_status(archive).st_size
    except OSError as error:
        raise _broken(str(archive), str(error.strerror)) from None
    return _list(archive, 0, size, str(archive))


def list_nested(tar: Member) -> list[Member]:
    """The regular files in a tar that is itself a member of one; offsets are the outer file's."""
    return _list(tar.archive, tar.offset, tar.offset + tar.size, f"{tar.archive}, {tar.name}")


def _list(archive: Path, start: int, end: int, name: str) -> list[Member]:
    try:
        with archive.open("rb") as file:
            places = list_places(file, start, end, name)
    except OSError as error:
        raise _broken(name, str(error)) from None
    return [Member(path, archive, place.offset, place.size) for path, place in places.items()]


def list_places(file: BinaryIO, start: int, end: int, archive: str) -> dict[str, Place]:
    """{name: place} of the regular files in the tar that `file` is from `start` to `end`.

    `archive` is what the text of DatasetError calls it.
    """
    places: dict[str, Place] = {}
    links: dict[str, str] = {}
    for header in _headers(file, start, end, archive):
        if header.issym():
            places.pop(header.name, None)
            folder = posixpath.dirname(header.name)
            links[header.name] = posixpath.normpath(posixpath.join(folder, header.linkname))
        elif header.islnk() or header.isreg():
            links.pop(header.name, None)
            place = Place(header.offset_data, header.size)
            if header.islnk():
                if header.linkname not in places:
                    raise _leads_nowhere(archive, header.name, header.linkname)
                place = places[header.linkname]
            places[header.name] = place
    if links:
        files = {posixpath.normpath(name): place for name, place in places.items()}
        targets = {posixpath.normpath(name): target for name, target in links.items()}
        for name, target in links.items():
            for _ in range(MOST_LINKS):
                target = targets.get(target, target)
            if target not in files:
                raise _leads_nowhere(archive, name, links[name])
            places[name] = files[target]
    return places


class _Headers:
    """A file of which headers are read. tarfile before Python 3.11.10 takes the square of the time
    for digits in records where no length is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if DIGITS.search(data):
            raise tarfile.ReadError("invalid records")
        return data


class _Header(tarfile.TarInfo):
    """Refuses sizes that tarfile trusts: one that no file has, and one of a name or of records that
    would fill the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if not 0 <= header.size < 2**62:
            raise tarfile.HeaderError(f"{header.name[:SHOWN]} should have {header.size:,} bytes")
        if header.size > LONGEST and header.type in EXTENSIONS:
            raise tarfile.HeaderError(
                f"{header.name[:SHOWN]} has a name or records of {header.size:,} bytes; the limit "
                f"is {LONGEST:,}"
            )
        return header


def _headers(file: BinaryIO, start: int, end: int, archive: str) -> list[tarfile.TarInfo]:
    try:
        file.seek(start)
        tar = tarfile.TarFile(
            fileobj=cast(IO[bytes], _Headers(file)),
            tarinfo=_Header,
            encoding="utf-8",
            errors="surrogateescape",
        )
        headers, before = [], start
        while header := tar.next():
            headers.append(header)
            if tar.offset <= before:  # by a size below zero in a record
                raise tarfile.ReadError(f"the size of {header.name[:SHOWN]} leads back")
            before = tar.offset
        # tarfile takes a broken header, or the file's end, for the end of the archive.
        file.seek(tar.offset)
        end_mark = file.read(tarfile.BLOCKSIZE)
    except RecursionError:
        raise _broken(archive, "a member with hundreds of headers") from None
    except (tarfile.TarError, ValueError, LookupError, OverflowError) as error:
        raise _broken(archive, str(error)) from None
    if wrong := OF_ONE & tar.pax_headers.keys():
        raise _broken(archive, f"one {min(wrong)} for all members")
    for header in headers:
        if header.issparse() or any(key.startswith(SPARSE) for key in header.pax_headers):
            raise _unread(archive, f"{header.name[:SHOWN]} is a sparse file, stored in pieces")
    # An inner tar that is cut short runs on into the members that follow it in the outer one.
    if tar.offset + tarfile.BLOCKSIZE > end:
        raise _broken(archive, f"it is cut short: no end mark in {end - start:,} bytes")
    if any(end_mark):
        raise _broken(archive, f"no member's header at byte {tar.offset:,}")
    return headers


def _broken(archive: str, reason: str) -> DatasetError:
    return DatasetError(
        f"{archive}: this is not a complete tar archive ({reason}); download or copy it again"
    )


def _unread(archive: str, reason: str) -> DatasetError:
    return DatasetError(
        f"{archive}: {reason}; write the archive again, with `tar --create --dereference`"
    )


def _leads_nowhere(archive: str, name: str, target: str) -> DatasetError:
    return _unread(
        archive, f"{name[:SHOWN]} is a link to {target[:SHOWN]}, which is no file in the archive"
    )
