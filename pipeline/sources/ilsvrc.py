"""ImageNet as its challenge of 2012 distributes it, read in place: nothing is unpacked.

ILSVRC2012_img_train.tar     a tar WNID.tar for each class, of WNID_NUMBER.JPEG
ILSVRC2012_img_val.tar       ILSVRC2012_val_NUMBER.JPEG
ILSVRC2012_devkit_t12.tar.gz the development kit, also unpacked, or from its data/ only these two:
  meta.mat                   the classes: devkit id, WNID, words
  ILSVRC2012_validation_ground_truth.txt  line n is the devkit id of validation image n

Two numberings meet here. A devkit id, from 1, is the kit's own; a label, from 0, is the place of
the WNID among all sorted ones, as in synset_words.txt and in every published network.
"""

import gzip
import io
import re
import zlib
from codecs import BOM_UTF8
from pathlib import Path

import numpy as np

from alexnet.bounds import memory_bounded, read_at_most
from alexnet.classes import ClassLabel, class_label
from pipeline.manifest import DatasetError
from pipeline.progress import ProgressBar
from pipeline.sources.source import Sample, Source, ordered
from pipeline.sources.tar import Member, Members, list_members, list_nested, list_places

TRAIN = "ILSVRC2012_img_train.tar"
VAL = "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
MAX_DEVKIT_BYTES = 64_000_000
"""The most that is unpacked of the kit, which is distributed in 2.5 million bytes."""
MAX_META_BYTES = 10**9
"""The most that reading META may take."""
SAME_YEAR = "use the complete archives and the development kit of 2012"


def ilsvrc_source(folder: Path, class_names: dict[str, str]) -> Source:
    """Names come from `class_names` ({WNID: name}), else from the devkit. Raises DatasetError."""
    leaves = _leaves(folder, class_names)
    classes = tuple(sorted(leaves.values(), key=lambda leaf: leaf.id))
    label_of = {leaf.id: label for label, leaf in enumerate(classes)}
    val = [
        Sample(f"{wnid}/{Path(image.name).stem}", label_of[wnid], image.location)
        for image, wnid in _validation(folder, leaves)
    ]
    train = [
        Sample(f"{wnid}/{stem}", label_of[wnid], image.location)
        for wnid, images in _training(folder, set(label_of)).items()
        for stem, image in images.items()
    ]
    return Source(classes, ordered(train, val), Members())


def _training(folder: Path, wnids: set[str]) -> dict[str, dict[str, Member]]:
    """{WNID: {file name without ending: image}}."""
    path = folder / TRAIN
    tars = {Path(tar.name).stem: tar for tar in list_members(path) if tar.name.endswith(".tar")}
    if unknown := sorted(tars.keys() - wnids):
        raise DatasetError(
            f"{path}: the archive holds {tars[unknown[0]].name}, which is no class of {META}; "
            f"{SAME_YEAR}"
        )
    if absent := sorted(wnids - tars.keys()):
        raise DatasetError(
            f"{path}: the archive lacks {absent[0]}.tar, a class of {META}; download it again"
        )
    classes = {}
    with ProgressBar(f"list {TRAIN}", len(tars), "classes") as progress:
        for wnid in sorted(tars):
            classes[wnid] = {
                Path(image.name).stem.replace(".", "_"): image for image in list_nested(tars[wnid])
            }
            if not classes[wnid]:
                raise DatasetError(
                    f"{path}: {tars[wnid].name} in this archive is empty; download it again"
                )
            progress.advance(1)
    return classes


def _validation(folder: Path, leaves: dict[int, ClassLabel]) -> list[tuple[Member, str]]:
    """Each image with the WNID of its class."""
    path = folder / VAL
    if not path.is_file():
        raise DatasetError(
            f"{path}: the file is missing; download it from image-net.org and put it beside {TRAIN}"
        )
    images = {}
    for image in list_members(path):
        if not (match := re.fullmatch(r"(?:.*/)?ILSVRC2012_val_(\d{8})\.JPEG", image.name)):
            raise DatasetError(
                f"{path}: the archive holds {image.name}, which is not named "
                "ILSVRC2012_val_NUMBER.JPEG; use the archive as it is distributed"
            )
        images[int(match[1])] = image
    ids = _ground_truth(folder, len(leaves))
    if len(ids) != len(images):
        raise DatasetError(
            f"{path}: the archive holds {len(images):,} images, but {GROUND_TRUTH} has "
            f"{len(ids):,} lines; {SAME_YEAR}"
        )
    if beyond := [number for number in images if not 1 <= number <= len(ids)]:
        raise DatasetError(
            f"{path}: the archive holds {images[beyond[0]].name}, but {GROUND_TRUTH} has only "
            f"{len(ids):,} lines; {SAME_YEAR}"
        )
    return [(image, leaves[ids[number - 1]].id) for number, image in sorted(images.items())]


def _ground_truth(folder: Path, count: int) -> list[int]:
    """The devkit ids, 1 to `count`, of all validation images in the order of their numbers."""
    data, path = _devkit(folder, GROUND_TRUTH)
    ids = []
    for number, line in enumerate(data.removeprefix(BOM_UTF8).rstrip().splitlines(), 1):
        if not line.strip().isdigit() or not 1 <= int(line) <= count:
            raise DatasetError(
                f"{path}, line {number}: {line.decode(errors='replace')!r} is not a class number "
                f"from 1 to {count:,}; download the development kit again"
            )
        ids.append(int(line))
    return ids


def _leaves(folder: Path, class_names: dict[str, str]) -> dict[int, ClassLabel]:
    """{devkit id: class}; the inner nodes of the hierarchy are left out."""
    from scipy.io import loadmat  # half a second to import, for this source alone

    data, path = _devkit(folder, META)
    try:
        with memory_bounded(MAX_META_BYTES):  # it may unpack to anything, or claim to
            synsets = np.atleast_1d(loadmat(io.BytesIO(data), squeeze_me=True)["synsets"])
        words_of = {
            int(synset["ILSVRC2012_ID"]): (str(synset["WNID"]), str(synset["words"]))
            for synset in synsets
            if synset["num_children"] == 0
        }
    except Exception as error:  # whatever scipy stumbles over
        raise DatasetError(
            f"{path}: cannot read `synsets` ({type(error).__name__}: {error}); "
            "download the development kit again"
        ) from None
    if sorted(words_of) != list(range(1, len(words_of) + 1)):
        raise DatasetError(
            f"{path}: its {len(words_of):,} classes are not numbered 1 to {len(words_of):,}; "
            f"use {DEVKIT}, the development kit of tasks 1 and 2"
        )
    return {
        i: class_label(wnid, class_names.get(wnid, words)) for i, (wnid, words) in words_of.items()
    }


def _devkit(folder: Path, name: str) -> tuple[bytes, str]:
    """A file of the devkit's data/, and where it was found."""
    for path in (folder / name, folder / DEVKIT / "data" / name):
        if path.is_file():
            try:
                return read_at_most(path, MAX_DEVKIT_BYTES), str(path)
            except OSError as error:
                raise DatasetError(
                    f"{path}: cannot be read ({error.strerror}); download it again"
                ) from None
    archive = folder / f"{DEVKIT}.tar.gz"
    if not archive.is_file():
        raise DatasetError(
            f"{folder / name}: the file is missing, and so is {archive.name}, which contains it; "
            f"download the latter from image-net.org and put it beside {TRAIN}"
        )
    try:
        with gzip.open(archive) as packed:
            content = packed.read(MAX_DEVKIT_BYTES + 1)
        if len(content) > MAX_DEVKIT_BYTES:
            raise OSError(f"it unpacks to more than {MAX_DEVKIT_BYTES:,} bytes")
        place = list_places(io.BytesIO(content), 0, len(content), str(archive)).get(
            f"{DEVKIT}/data/{name}"
        )
        if place is None:
            raise OSError(f"there is no {DEVKIT}/data/{name}")
    except (EOFError, OSError, zlib.error) as error:
        raise DatasetError(
            f"{archive}: {name} cannot be read from it ({error}); download it again"
        ) from None
    return content[place.offset : place.offset + place.size], f"{archive}, {name}"
