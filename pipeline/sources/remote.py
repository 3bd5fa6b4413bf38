"""Sources in object storage: photographs, tars of them and WebDataset shards, read where they lie.

The sources on disk list an outline of one: a temporary folder with the names of all files, the text
of tables, and of tars the headers and labels, with holes in the place of the images. What they find
is read from the store.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from alexnet.command import UserError
from alexnet.store.errors import MissingError
from alexnet.store.store import PART_BYTES, Store, Tag
from alexnet.store.url import StoreURL
from alexnet.tree import no_photograph
from pipeline.manifest import DatasetError
from pipeline.progress import ProgressBar
from pipeline.sources.source import Files, Sample, Source, check_size
from pipeline.sources.tar import Members, list_places

WHOLE = (".csv", ".json", ".jsonl", ".tsv", ".txt", ".tar.gz", ".tgz")
"""Endings of what is read of a source itself: tables, names of classes, development kits."""
MAX_WHOLE = 200_000_000
"""Bytes of the largest of them."""
MAX_LABEL = 1_000_000
TAIL = 1024
"""Bytes after each header that an outline has as well: most labels."""
LISTED_AT_ONCE = 4


class Stored:
    """Reads objects, and members of tars; locations are those of `Files` and `Members` below a
    URL."""

    def __init__(self, url: StoreURL, members: bool) -> None:
        self._url, self._members = url, members
        self._tags: dict[str, Tag] = {}

    def __reduce__(self) -> tuple[type["Stored"], tuple[StoreURL, bool]]:
        return Stored, (self._url, self._members)  # each process opens the store itself

    @cached_property
    def _store(self) -> Store:
        return Store(self._url)

    def read(self, location: str) -> bytes:
        """Raises OSError where there is no such object any more, StoreError, ImageError."""
        try:
            if not self._members:
                name = self._name(location)
                check_size(self._store.size(name) or 0)
                return self._store.read(name)
            archive, offset, size = location.rsplit(":", 2)
            check_size(int(size))
            start = int(offset)
            (data,) = self._store.ranges(self._name(archive), [start], [start + int(size)])
            return bytes(data)
        except MissingError as error:
            raise OSError(str(error)) from None

    def stamp(self, location: str) -> str:
        place = location.rsplit(":", 2)[1:] if self._members else []
        name = self._name(location.rsplit(":", 2)[0] if self._members else location)
        if name not in self._tags:
            if (tag := self._store.tag(name)) is None:
                raise OSError(f"{self._store.place(name)}: there is no such object")
            self._tags[name] = tag
        return f"{self._tags[name].e_tag} {':'.join(place)}"

    def _name(self, location: str) -> str:
        return location.removeprefix(f"{self._url}/")


def remote_source(url: StoreURL, open_folder: Callable[[Path], Source]) -> Source:
    """The source at `url`, a tar or what lies below, as `open_folder` finds it in a folder or a
    tar. Raises UserError."""
    is_tar = url.endswith(".tar")
    root = url.parent if is_tar else url
    with tempfile.TemporaryDirectory(prefix="outline.") as temporary:
        folder = Path(temporary).resolve()
        _outline(root, [url.name] if is_tar else None, folder)
        try:
            source = open_folder(folder / url.name if is_tar else folder)
        except UserError as error:
            raise DatasetError(str(error).replace(str(folder), root)) from None
    if not isinstance(source.reader, (Files, Members)):
        raise DatasetError(f"{url}: such a source is read from disk alone; copy it to a folder")
    return Source(
        source.classes,
        {
            split: [_moved(sample, str(folder), root) for sample in samples]
            for split, samples in source.splits.items()
        },
        Stored(root, isinstance(source.reader, Members)),
    )


def _moved(sample: Sample, folder: str, url: StoreURL) -> Sample:
    if not sample.location.startswith(f"{folder}/"):
        raise DatasetError(
            f"{url}: there are compressed shards, which are read from disk alone; decompress them, "
            "or copy them to a folder"
        )
    return sample._replace(location=f"{url}{sample.location.removeprefix(folder)}")


def _outline(url: StoreURL, names: list[str] | None, folder: Path) -> None:
    store = Store(url)
    if names is None:
        names = [name for name in store.names() if name]
    if not names:
        raise DatasetError(f"{url}: there is nothing below this URL; check it")
    with ProgressBar(f"list {url}", len(names), "objects") as progress:

        def outline(name: str) -> None:
            if any(part in ("", ".", "..") for part in name.split("/")):
                raise DatasetError(f"{url}/{name}: no file can have this name; rename the object")
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".tar"):
                _outline_tar(store, name, path)
            elif name.lower().endswith(WHOLE) and (store.size(name) or 0) <= MAX_WHOLE:
                store.fetch(name, path)
            else:
                path.touch()

        with ThreadPoolExecutor(LISTED_AT_ONCE) as pool:
            for _ in pool.map(outline, names):
                progress.advance(1)


def _outline_tar(store: Store, name: str, path: Path) -> None:
    size = store.size(name)
    if size is None:
        raise DatasetError(f"{store.place(name)}: there is no such object; check the URL")
    with path.open("wb") as copy:
        copy.truncate(size)
        _record(_Recorded(store, name, size, copy), 0, size, store.place(name))


def _record(tar: "_Recorded", start: int, end: int, name: str) -> None:
    """Read the headers of a tar, of tars in it, and what in them is no image."""
    for member, place in list_places(cast(BinaryIO, tar), start, end, name).items():
        if PurePosixPath(member).suffix == ".tar":
            _record(tar, place.offset, place.offset + place.size, f"{name}, {member}")
        elif TAIL < place.size <= MAX_LABEL and no_photograph(member):
            tar.seek(place.offset)
            tar.read(place.size)


class _Recorded:
    """An object as a file, of which all that is read is copied to the same place of another."""

    def __init__(self, store: Store, name: str, size: int, copy: BinaryIO) -> None:
        self._store, self._name, self._size, self._copy = store, name, size, copy
        self._at = 0
        self._parts: dict[int, memoryview] = {}

    def seek(self, offset: int, whence: int = 0) -> int:
        assert not whence
        self._at = offset
        return offset

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size < 0 else min(self._size, self._at + size)
        data = self._bytes(self._at, min(self._size, end + TAIL))
        self._copy.seek(self._at)
        self._copy.write(data)
        data = data[: max(0, end - self._at)]
        self._at += len(data)
        return data

    def _bytes(self, start: int, end: int) -> bytes:
        found = []
        for number in range(start // PART_BYTES, -(-end // PART_BYTES)):
            first = number * PART_BYTES
            part = self._part(number)
            found.append(part[max(0, start - first) : end - first])
        return b"".join(found)

    def _part(self, number: int) -> memoryview:
        if number not in self._parts:
            first = number * PART_BYTES
            end = min(self._size, first + PART_BYTES)
            (part,) = self._store.ranges(self._name, [first], [end])
            self._parts = {**dict([*self._parts.items()][-1:]), number: part}
        return self._parts[number]
