"""A submission to ImageNet's challenge of 2010 or 2012, as readme.txt of the development kits says:
a line for each test image in the order of their names, with the devkit ids of the best guesses,
best first, and a blank between two of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa

from alexnet.classes import ClassLabel
from alexnet.command import UserError
from pipeline.sources.devkit import YEARS, read_leaves
from pipeline.sources.ilsvrc import Numbered
from pipeline.sources.unlabelled import Photograph
from trainer.prediction.table import Write

WHOLE = "give the archive of the test images as it is distributed, or the folder it is unpacked to"


class Submission(NamedTuple):
    """The test images in order, and what writes the answers about them."""

    photographs: list[Photograph]
    write: Write


def submission(
    photographs: Iterable[Photograph], kit: Path, classes: Sequence[ClassLabel]
) -> Submission:
    """What a model of these classes is to answer with the ids of a development kit. Raises
    UserError unless the photographs are all test images, or all validation images, of one year."""
    images: dict[Numbered, Photograph] = {}
    for photograph in photographs:
        path = photograph.member or photograph.path
        numbered = Numbered.of(path)
        if not numbered or numbered[:2] != next(iter(images), numbered)[:2]:
            raise UserError(
                f"{photograph.path}: {path} is not named as the test images of one challenge, "
                f"such as ILSVRC2012_test_00000001.JPEG, which a submission is about; {WHOLE}"
            )
        if numbered in images:
            raise UserError(f"{photograph.path}: {path} is there twice; {WHOLE}")
        images[numbered] = photograph
    ordered = sorted(images)
    if lacking := next((n for n, each in enumerate(ordered, 1) if each.number != n), None):
        raise UserError(
            f"{images[ordered[0]].path}: there is no image of number {lacking}, but of "
            f"{ordered[-1].number}; {WHOLE}"
        )
    ids = _ids(kit, ordered[0].year, classes) if ordered else {}

    def write(file: BinaryIO, of: pa.Schema, tables: Iterable[pa.Table]) -> None:
        """Raises UserError where an image has no answer."""
        guesses = [name for name in of.names if name.startswith("id")]
        for rows in tables:
            for row in rows.to_pylist():
                if row["error"] is not None:
                    raise UserError(
                        f"{row['path']}: there is no answer about {row['member'] or 'it'} "
                        f"({row['error']}), but a submission has one about each image; download "
                        "the archive again"
                    )
                file.write((" ".join(ids[row[name]] for name in guesses) + "\n").encode())

    return Submission([images[numbered] for numbered in ordered], write)


def _ids(kit: Path, name: str, classes: Sequence[ClassLabel]) -> dict[str, str]:
    """{WNID: devkit id} of a model's classes."""
    year = next((year for year in YEARS if year.name == name), None)
    if year is None:
        names = " and ".join(year.name for year in YEARS)
        raise UserError(f"--devkit {kit}: the images are of {name}; give those of {names} alone")
    leaves = read_leaves(kit, year, {})
    ids = {leaf.id: str(number) for number, leaf in leaves.items()}
    if unknown := next((label.id for label in classes if label.id not in ids), None):
        raise UserError(
            f"--devkit {kit}: {unknown}, a class of the model, is none of the kit's; take a model "
            f"of the classes of {name}"
        )
    return ids
