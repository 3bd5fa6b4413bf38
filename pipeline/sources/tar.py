"""Tar archives read in place: where their members lie, and a reader of those places.

Headers are read here, not by tarfile, which trusts them: a negative size sends it back for ever, it
reads a name of any length, and it takes a sparse file's pieces for its content. The format is pax
of POSIX.1-2017 and what GNU tar has beside it.
"""

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pipeline.manifest import DatasetError
from pipeline.sources.source import check_size, regular_status

BLOCK = 512
"""Bytes of a header; what follows it is filled up to a multiple of them."""
REGULAR = (b"0", b"\0", b"7")
HARD_LINK, SYMBOLIC_LINK = b"1", b"2"
BARE = (HARD_LINK, SYMBOLIC_LINK, b"3", b"4", b"5", b"6")
"""Links, devices, folders and pipes: no data follows, whatever size they tell."""
OF_ONE = {"path", "linkpath", "size"}
"""Keys that cannot be common to all members."""
RECORDS, COMMON_RECORDS = (b"x", b"X"), b"g"
LONG = {b"L": "path", b"K": "linkpath"}
"""GNU's headers for what is too long, by the keys that pax has for it."""
EXTENSIONS = (*RECORDS, COMMON_RECORDS, *LONG)
SPARSE_TYPE, SPARSE_KEY = b"S", "GNU.sparse."
GNU = b"ustar  \0"
"""The magic of GNU's own format, which has no prefix of the name."""
LONGEST = 1 << 20
"""Bytes of a name, or of the records of one member."""
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
    for header, place in _headers(file, start, end, archive):
        if header.type == SYMBOLIC_LINK:
            places.pop(header.name, None)
            folder = posixpath.dirname(header.name)
            links[header.name] = posixpath.normpath(posixpath.join(folder, header.target))
        elif header.type == HARD_LINK or header.type in REGULAR:
            links.pop(header.name, None)
            if header.type == HARD_LINK:
                if header.target not in places:
                    raise _leads_nowhere(archive, header.name, header.target)
                place = places[header.target]
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


class _Header(NamedTuple):
    name: str
    type: bytes
    size: int
    target: str
    """What a link names."""


def _headers(file: BinaryIO, start: int, end: int, archive: str) -> Iterator[tuple[_Header, Place]]:
    """Each member, with what the headers before it say of it."""
    offset, told = start, 0
    about: dict[str, str] = {}
    while True:
        file.seek(offset)
        block = file.read(max(0, min(BLOCK, end - offset)))
        if len(block) < BLOCK:
            if offset > start:
                raise _broken(archive, f"it is cut short: no end mark in {end - start:,} bytes")
            raise _broken(archive, "truncated header" if block else "empty file")
        if not any(block) and not about:
            return
        if not (header := _header(block, about)):
            what = "no member's header" if offset > start else "invalid header"
            raise _broken(archive, f"{what} at byte {offset:,}")
        place = Place(offset + BLOCK, 0 if header.type in BARE else header.size)
        offset = place.offset + -(-place.size // BLOCK) * BLOCK
        if place.size < 0 or offset > end:
            raise _broken(
                archive,
                f"unexpected end of data: {header.name[:SHOWN]} should have {place.size:,} bytes, "
                f"and {end - place.offset:,} follow",
            )
        if header.type in EXTENSIONS:
            told += place.size
            if told > LONGEST:
                what = f"{header.name[:SHOWN]} has a name or records of {told:,} bytes"
                raise _unread(archive, f"{what}; the limit is {LONGEST:,}")
            found = _described(header.type, file.read(place.size))
            if found is None or (header.type == COMMON_RECORDS and OF_ONE & found.keys()):
                raise _broken(archive, f"invalid records at byte {place.offset:,}")
            if header.type != COMMON_RECORDS:
                for key, value in found.items():
                    about.setdefault(key, value)
        elif header.type == SPARSE_TYPE or any(key.startswith(SPARSE_KEY) for key in about):
            raise _unread(archive, f"{header.name[:SHOWN]} is a sparse file, stored in pieces")
        else:
            about, told = {}, 0
            yield header, place


def _header(block: bytes, about: dict[str, str]) -> _Header | None:
    """What a block says where it is a header; what is in `about` goes before it."""
    summed = block[:148] + b" " * 8 + block[156:]
    total = _number(block[148:156])
    # Some programs of old added up signed bytes.
    if total != sum(summed) and total != sum(memoryview(summed).cast("b")):
        return None
    name, kind, prefix = _text(block[:100]), block[156:157], _text(block[345:500])
    if kind == b"\0" and name.endswith("/"):
        kind = b"5"
    if prefix and block[257:265] != GNU:
        name = f"{prefix}/{name}"
    size = _number(block[124:136])
    if kind not in EXTENSIONS:
        name = about.get("path") or name
        if told := about.get("size"):
            size = int(told) if re.fullmatch("[0-9]{1,20}", told) else None
    if size is None:
        return None
    return _Header(name, kind, size, about.get("linkpath") or _text(block[157:257]))


def _number(field: bytes) -> int | None:
    """In octal digits; or, where the first bit is set, as GNU writes it to base 256."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (256 ** len(field[1:]) if field[0] > 0x80 else 0)
    digits = field.partition(b"\0")[0].strip()
    return int(digits or b"0", 8) if re.fullmatch(b"[0-7]*", digits) else None


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _described(kind: bytes, data: bytes) -> dict[str, str] | None:
    """{key: value} of an extension; each record of pax is `LENGTH KEY=VALUE` and the end of a line.
    None where one is not."""
    if kind in LONG:
        return {LONG[kind]: _text(data)}
    found, start = {}, 0
    while start < len(data):
        length = re.compile(b"[0-9]{1,20}(?= )").match(data, start)
        stop = start + int(length[0]) if length else start
        key, equals, value = data[length.end() + 1 if length else start : stop].partition(b"=")
        if not equals or stop > len(data) or not value.endswith(b"\n"):
            return None
        found[key.decode("utf-8", "surrogateescape")] = value[:-1].decode(
            "utf-8", "surrogateescape"
        )
        start = stop
    return found


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
