"""ImageNet as its challenges of 2010 and 2012 distribute it, read in place: nothing is unpacked.

ILSVRC2012_img_train.tar        a tar WNID.tar for each class, of WNID_NUMBER.JPEG
ILSVRC2012_img_val.tar          ILSVRC2012_val_NUMBER.JPEG
ILSVRC2012_devkit_t12.tar.gz    the development kit, as devkit.py has it

ILSVRC2010_images_train.tar     as in 2012
ILSVRC2010_images_val.tar       val/ILSVRC2010_val_NUMBER.JPEG
ILSVRC2010_images_test.tar      test/ILSVRC2010_test_NUMBER.JPEG
ILSVRC2010_devkit-1.0.tar.gz    the development kit
ILSVRC2010_test_ground_truth.txt  line n is the devkit id of test image n
patch_images.tar                images in the place of those of the same names, which are blank

Two numberings meet here. A devkit id, from 1, is the kit's own; a label, from 0, is the place of
the WNID among all sorted ones, as in synset_words.txt and in every published network.
"""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from alexnet.classes import ClassLabel
from pipeline.manifest import DatasetError
from pipeline.progress import ProgressBar
from pipeline.sources.devkit import META, YEARS, Year, read_ground_truth, read_leaves
from pipeline.sources.source import Sample, Source, ordered
from pipeline.sources.tar import Member, Members, list_members, list_nested

PATCHES = "patch_images.tar"
NAME = re.compile(r"(ILSVRC\d{4})_(val|test)_(\d{8})\.JPEG")
"""Of an image to be validated or tested on."""


class Numbered(NamedTuple):
    """What the name of an image to be validated or tested on says."""

    year: str
    split: str
    number: int

    @classmethod
    def of(cls, path: str) -> "Numbered | None":
        match = NAME.fullmatch(PurePosixPath(path).name)
        return cls(match[1], match[2], int(match[3])) if match else None


def find_year(files: Iterable[Path]) -> Year | None:
    """Of which challenge a folder with these files has the training images, if of any."""
    names = {path.name for path in files}
    return next((year for year in YEARS if year.train in names), None)


def ilsvrc_source(folder: Path, year: Year, class_names: dict[str, str]) -> Source:
    """Names come from `class_names` ({WNID: name}), else from the devkit. Raises DatasetError."""
    leaves = read_leaves(folder, year, class_names)
    path = folder / year.val
    if not path.is_file():
        raise DatasetError(
            f"{path}: the file is missing; download it from image-net.org and put it beside "
            f"{year.train}"
        )
    val = _labelled(path, list_members(path), year, "val", leaves)
    train = _training(folder, year, _label_of(leaves))
    classes = tuple(sorted(leaves.values(), key=lambda leaf: leaf.id))
    return Source(classes, ordered(train, val), Members())


def archive_images(archive: Path) -> tuple[tuple[str, ...], list[Sample]]:
    """(WNIDs in label order, every image in order of its key) of an archive to be validated or
    tested on: the development kit, and for test images their ground truth, lie beside it.

    Keys are those of the same images in class folders. Raises DatasetError.
    """
    members = list_members(archive)
    first = Numbered.of(members[0].name) if members else None
    year = next((year for year in YEARS if first and year.name == first.year), None)
    if not first or not year:
        names = " or ".join(year.name for year in YEARS)
        raise DatasetError(
            f"{archive}: the archive holds {members[0].name if members else 'no file'}, and no "
            f"images of {names} to be validated or tested on; unpack it, and give a folder"
        )
    leaves = read_leaves(archive.parent, year, {})
    samples = _labelled(archive, members, year, first.split, leaves)
    return tuple(_label_of(leaves)), sorted(samples)


def _label_of(leaves: dict[int, ClassLabel]) -> dict[str, int]:
    return {wnid: label for label, wnid in enumerate(sorted(leaf.id for leaf in leaves.values()))}


def _training(folder: Path, year: Year, label_of: dict[str, int]) -> list[Sample]:
    path = folder / year.train
    tars = {Path(tar.name).stem: tar for tar in list_members(path) if tar.name.endswith(".tar")}
    if unknown := sorted(tars.keys() - label_of.keys()):
        raise DatasetError(
            f"{path}: the archive holds {tars[unknown[0]].name}, which is no class of {META}; "
            f"{_same_year(year)}"
        )
    if absent := sorted(label_of.keys() - tars.keys()):
        raise DatasetError(
            f"{path}: the archive lacks {absent[0]}.tar, a class of {META}; download it again"
        )
    patches, samples = _patches(folder), []
    with ProgressBar(f"list {year.train}", len(tars), "classes") as progress:
        for wnid in sorted(tars):
            images = {
                Path(image.name).stem.replace(".", "_"): patches.get(Path(image.name).name, image)
                for image in list_nested(tars[wnid])
            }
            if not images:
                raise DatasetError(
                    f"{path}: {tars[wnid].name} in this archive is empty; download it again"
                )
            samples += [
                Sample(f"{wnid}/{stem}", label_of[wnid], image.location)
                for stem, image in images.items()
            ]
            progress.advance(1)
    return samples


def _labelled(
    path: Path, members: list[Member], year: Year, split: str, leaves: dict[int, ClassLabel]
) -> list[Sample]:
    """The images of `split` in the archive, each with the label of its line of the ground truth."""
    images = {}
    for image in members:
        numbered = Numbered.of(image.name)
        if not numbered or numbered[:2] != (year.name, split):
            raise DatasetError(
                f"{path}: the archive holds {image.name}, which is not named "
                f"{year.name}_{split}_NUMBER.JPEG; use the archive as it is distributed"
            )
        images[numbered.number] = image
    ids = read_ground_truth(path.parent, year, split, len(leaves))
    truth = year.ground_truth(split)
    if len(ids) != len(images):
        raise DatasetError(
            f"{path}: the archive holds {len(images):,} images, but {truth} has {len(ids):,} "
            f"lines; {_same_year(year)}"
        )
    if beyond := [number for number in images if not 1 <= number <= len(ids)]:
        raise DatasetError(
            f"{path}: the archive holds {images[beyond[0]].name}, but {truth} has only "
            f"{len(ids):,} lines; {_same_year(year)}"
        )
    label_of, patches = _label_of(leaves), _patches(path.parent)
    samples = []
    for number, image in sorted(images.items()):
        wnid, name = leaves[ids[number - 1]].id, Path(image.name)
        place = patches.get(name.name, image)
        samples.append(Sample(f"{wnid}/{name.stem}", label_of[wnid], place.location))
    return samples


def _patches(folder: Path) -> dict[str, Member]:
    """{file name: the image in the place of that of this name}."""
    path = folder / PATCHES
    return {Path(image.name).name: image for image in list_members(path)} if path.exists() else {}


def _same_year(year: Year) -> str:
    return f"use the complete archives and the development kit of {year.name}"
