"""ImageNet's releases of all that it has, such as that of autumn 2011, read in place.

fall11_whole.tar    a tar WNID.tar for each synset, of WNID_NUMBER.JPEG

Such a release has neither a validation split nor names. The tars of the synsets may as well lie in
a folder.
"""

import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from alexnet.classes import ClassLabel, class_label
from alexnet.tree import list_entries
from pipeline.manifest import DatasetError
from pipeline.progress import ProgressBar
from pipeline.sources.folder import unique_keys
from pipeline.sources.source import Sample, Source, hold_out
from pipeline.sources.tar import Member, Members, list_members, list_nested

WHOLE = "*_whole.tar"
SYNSET = re.compile(r"n\d{8}\.tar")
FEWEST = 2
"""Images of a class: one to train on, one to validate on."""


def find_archives(folder: Path) -> list[Path]:
    """The tars in a folder, if all are those of synsets or of releases; empty if not."""
    tars = [path for path in list_entries(folder).files if path.suffix == ".tar"]
    ours = all(path.match(WHOLE) or SYNSET.fullmatch(path.name) for path in tars)
    return tars if ours else []


def synsets_source(
    archives: Sequence[Path], val_fraction: float, class_names: dict[str, str]
) -> Source:
    """Images of all synsets in `archives`, which are tars of their tars, or these; `val_fraction`
    of each class is held out.

    Keys, and so what is held out, are those of the same images in class folders. Synsets of one
    image or none are left out, and one line on stderr says so. Raises DatasetError.
    """
    listings = _listings(archives)
    samples: list[Sample] = []
    classes: list[ClassLabel] = []
    few: list[str] = []
    with ProgressBar(f"list {archives[0].name}", len(listings), "synsets") as progress:
        for wnid in sorted(listings):
            images = {Path(wnid, image.name.lstrip("/")): image for image in listings[wnid]()}
            if len(images) < FEWEST:
                few.append(wnid)
            else:
                keys = unique_keys(Path(), [*images])
                samples += (
                    Sample(keys[path], len(classes), image.location)
                    for path, image in images.items()
                )
                classes.append(class_label(wnid, class_names.get(wnid, wnid)))
            progress.advance(1)
    if few:
        print(
            f"{archives[0]}: left out: synsets of less than {FEWEST} images ({len(few):,}), such "
            f"as {few[0]}",
            file=sys.stderr,
        )
    if len(classes) < 2:
        raise DatasetError(
            f"{archives[0]}: a classifier needs at least two synsets of {FEWEST} images or more; "
            "add others"
        )
    return Source(tuple(classes), hold_out(samples, val_fraction), Members())


def _listings(archives: Sequence[Path]) -> dict[str, Callable[[], list[Member]]]:
    """{WNID: what lists its images}. Raises DatasetError."""
    listings: dict[str, Callable[[], list[Member]]] = {}
    for archive in archives:
        tars: list[tuple[Path, Callable[[], list[Member]]]]
        if SYNSET.fullmatch(archive.name):
            tars = [(archive, partial(list_members, archive))]
        else:
            tars = [(Path(tar.name), partial(list_nested, tar)) for tar in list_members(archive)]
        for tar, listing in tars:
            if not SYNSET.fullmatch(tar.name):
                raise DatasetError(
                    f"{archive}: the archive holds {tar}, which is not named WNID.tar, such as "
                    "n01440764.tar; use a release of ImageNet as it is distributed, or unpack the "
                    "archive, and give the folder"
                )
            if tar.stem in listings:
                raise DatasetError(
                    f"{archive}: {tar.stem} is there twice; remove one of the archives with it"
                )
            listings[tar.stem] = listing
    return listings
