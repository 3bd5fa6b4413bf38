"""The development kits of ImageNet's challenges: the classes, and the ground truth.

ILSVRC2012_devkit_t12.tar.gz the development kit, also unpacked, or from its data/ only these two:
  meta.mat                   the classes: devkit id, WNID, words
  ILSVRC2012_validation_ground_truth.txt  line n is the devkit id of validation image n

That of 2010 has the same two files, and the ground truth of the test images was released beside it.
"""

import gzip
import io
import zlib
from codecs import BOM_UTF8
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexnet.bounds import memory_bounded, read_at_most
from alexnet.classes import ClassLabel, class_label
from pipeline.manifest import DatasetError
from pipeline.sources.tar import list_places

META = "meta.mat"
MAX_DEVKIT_BYTES = 64_000_000
"""The most that is unpacked of a kit; that of 2012 is distributed in 2.5 million bytes."""
MAX_META_BYTES = 10**9
"""The most that reading META may take."""


class Year(NamedTuple):
    """What the challenge of a year calls its files."""

    name: str
    """How the names of all its images begin."""
    train: str
    val: str
    kits: tuple[str, ...]
    """The development kit: the file that is downloaded, and folders that it is unpacked to."""

    def ground_truth(self, split: str) -> str:
        """The name of the file with the devkit ids of the images of `split`, val or test."""
        return f"{self.name}_{'validation' if split == 'val' else split}_ground_truth.txt"


YEARS = (
    Year(
        "ILSVRC2010",
        "ILSVRC2010_images_train.tar",
        "ILSVRC2010_images_val.tar",
        ("ILSVRC2010_devkit-1.0", "devkit-1.0"),
    ),
    Year(
        "ILSVRC2012",
        "ILSVRC2012_img_train.tar",
        "ILSVRC2012_img_val.tar",
        ("ILSVRC2012_devkit_t12",),
    ),
)


def read_leaves(kit: Path, year: Year, class_names: dict[str, str]) -> dict[int, ClassLabel]:
    """{devkit id: class}; the inner nodes of the hierarchy are left out.

    `kit` is the development kit, or the folder that it is in. Names come from `class_names`
    ({WNID: name}), else from the kit. Raises DatasetError.
    """
    from scipy.io import loadmat  # half a second to import, for these sources alone

    data, path = _read(kit, year, META)
    try:
        with memory_bounded(MAX_META_BYTES):  # it may unpack to anything, or claim to
            synsets = np.atleast_1d(loadmat(io.BytesIO(data), squeeze_me=True)["synsets"])
        words_of = {
            int(synset[f"{year.name}_ID"]): (str(synset["WNID"]), str(synset["words"]))
            for synset in synsets
            if synset["num_children"] == 0
        }
    except Exception as error:  # whatever scipy stumbles over
        raise DatasetError(
            f"{path}: cannot read `synsets` ({type(error).__name__}: {error}); "
            f"download the development kit of {year.name} again"
        ) from None
    if sorted(words_of) != list(range(1, len(words_of) + 1)):
        raise DatasetError(
            f"{path}: its {len(words_of):,} classes are not numbered 1 to {len(words_of):,}; "
            f"use {year.kits[0]}, the development kit of image classification"
        )
    return {
        i: class_label(wnid, class_names.get(wnid, words)) for i, (wnid, words) in words_of.items()
    }


def read_ground_truth(folder: Path, year: Year, split: str, count: int) -> list[int]:
    """The devkit ids, 1 to `count`, of all images of `split` in the order of their numbers. Raises
    DatasetError."""
    data, path = _read(folder, year, year.ground_truth(split))
    ids = []
    for number, line in enumerate(data.removeprefix(BOM_UTF8).rstrip().splitlines(), 1):
        if not line.strip().isdigit() or not 1 <= int(line) <= count:
            raise DatasetError(
                f"{path}, line {number}: {line.decode(errors='replace')!r} is not a class number "
                f"from 1 to {count:,}; download the development kit again"
            )
        ids.append(int(line))
    return ids


def _read(kit: Path, year: Year, name: str) -> tuple[bytes, str]:
    """A file of the kit's data/, and where it was found."""
    if kit.is_file():
        return _unpacked(kit, name)
    for folder in (kit, kit / "data", *(kit / unpacked / "data" for unpacked in year.kits)):
        if (path := folder / name).is_file():
            try:
                return read_at_most(path, MAX_DEVKIT_BYTES), str(path)
            except OSError as error:
                raise DatasetError(
                    f"{path}: cannot be read ({error.strerror}); download it again"
                ) from None
    if name == year.ground_truth("test"):
        raise DatasetError(
            f"{kit / name}: the file is missing; put the labels of the test images there, which "
            "image-net.org has for 2010 alone, beside the development kit"
        )
    archives = [kit / f"{unpacked}.tar.gz" for unpacked in year.kits]
    if found := [archive for archive in archives if archive.is_file()]:
        return _unpacked(found[0], name)
    raise DatasetError(
        f"{kit / name}: the file is missing, and so is {archives[0].name}, which contains it; "
        "download the latter from image-net.org and put it there"
    )


def _unpacked(archive: Path, name: str) -> tuple[bytes, str]:
    try:
        with gzip.open(archive) as packed:
            content = packed.read(MAX_DEVKIT_BYTES + 1)
        if len(content) > MAX_DEVKIT_BYTES:
            raise OSError(f"it unpacks to more than {MAX_DEVKIT_BYTES:,} bytes")
        places = list_places(io.BytesIO(content), 0, len(content), str(archive))
        found = [place for path, place in places.items() if f"/{path}".endswith(f"/data/{name}")]
        if not found:
            raise OSError(f"there is no data/{name}")
    except (EOFError, OSError, zlib.error) as error:
        raise DatasetError(
            f"{archive}: {name} cannot be read from it ({error}); download it again"
        ) from None
    start, size = found[0]
    return content[start : start + size], f"{archive}, {name}"
