"""Photographs whatever they lie in, without labels: those that a model is asked about."""

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from alexnet.tree import SYSTEM_FOLDERS, LeftOut, no_photograph, unreadable, walk
from pipeline.manifest import DatasetError
from pipeline.sources import WORDS, open_source
from pipeline.sources.compressed import is_compressed, plain
from pipeline.sources.source import VAL_FRACTION, Files, Reader
from pipeline.sources.tar import Member, Members, list_members, list_nested

FILES, MEMBERS = Files(), Members()
TAR = ".tar"


class Photograph(NamedTuple):
    path: str
    """The file, or the archive that it is in: the source as it was named, and the place below."""
    member: str | None
    """What an archive calls it, or the key of a drawn image; None for a file."""
    reader: Reader
    location: str
    """What `reader` takes; absolute, since tasks run elsewhere."""


def photographs(sources: Sequence[str]) -> Iterator[Photograph]:
    """Those in each source: a photograph, a tar, a folder of both at any depth, or one of WORDS.

    A folder's files come by name, then its folders by name; a tar's members in its order, those of
    a tar in it in its place. Compressed tars in a folder are read where it has no plain ones. What
    was left out for its name is said on stderr. Raises UserError.
    """
    for name in sources:
        path = Path(name)
        if name in WORDS:
            yield from _of_word(name)
        elif _is_folder(path):
            left_out = LeftOut()
            yield from _of_folder(path, left_out)
            left_out.say(path)
        elif _is_tar(path):
            left_out = LeftOut()
            yield from _of_tar(path, left_out)
            left_out.say(path)
        elif kind := no_photograph(path.name):
            raise DatasetError(
                f"{path}: a file named {kind} is neither a photograph nor a tar of them; unpack it "
                "where it is another archive, and give the folder"
            )
        else:
            yield _of_file(path)


def _is_folder(path: Path) -> bool:
    try:
        found, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise unreadable(path, error) from None
    if not found:
        raise DatasetError(
            f"{path}: there is no such file or folder; give photographs, folders or tars of them, "
            f"or the word {' or '.join(WORDS)}"
        )
    return is_folder


def _is_tar(path: Path) -> bool:
    return path.suffix.lower() == TAR or is_compressed(path)


def _of_word(name: str) -> Iterator[Photograph]:
    source = open_source(name, VAL_FRACTION, None)
    for samples in source.splits.values():
        for sample in samples:
            if isinstance(source.reader, Files):
                yield _of_file(Path(sample.location))
            else:
                yield Photograph(name, sample.key, source.reader, sample.location)


def _of_file(path: Path) -> Photograph:
    return Photograph(str(path), None, FILES, str(path.absolute()))


def _of_folder(root: Path, left_out: LeftOut) -> Iterator[Photograph]:
    for folder, names in walk(root, left_out):
        has_plain = any(name.lower().endswith(TAR) for name in names)
        for name in names:
            path = folder / name
            if _is_tar(path) and not (has_plain and is_compressed(path)):
                yield from _of_tar(path, left_out)
            elif kind := no_photograph(name):
                left_out[kind] += 1
            else:
                yield _of_file(path)


def _of_tar(path: Path, left_out: LeftOut) -> Iterator[Photograph]:
    for member in list_members(plain(path.absolute())):
        name = member.name.removeprefix("./")
        if name.lower().endswith(TAR):
            for inner in list_nested(member):
                yield from _of_member(
                    path, f"{name}/{inner.name.removeprefix('./')}", inner, left_out
                )
        else:
            yield from _of_member(path, name, member, left_out)


def _of_member(path: Path, name: str, member: Member, left_out: LeftOut) -> Iterator[Photograph]:
    place = PurePosixPath(name)
    if any(part.startswith(".") and part != ".." for part in place.parts):
        return
    if system := next((part for part in place.parts if part.lower() in SYSTEM_FOLDERS), None):
        left_out[f"{system}/"] += 1
    elif kind := no_photograph(place.name):
        left_out[kind] += 1
    else:
        yield Photograph(str(path), name, MEMBERS, member.location)
