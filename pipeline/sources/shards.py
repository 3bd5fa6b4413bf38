"""WebDataset shards, read in place: tars in which the files of one sample share a name.

https://github.com/webdataset/webdataset; our own packed datasets are of this form too.
"""

import json
import re
from collections import defaultdict
from pathlib import Path

from pydantic import BaseModel, ValidationError

from alexnet.bounds import read_at_most
from alexnet.classes import ClassLabel, class_label
from alexnet.fault import fault
from alexnet.formats import ENDINGS, USUAL_ENDINGS
from alexnet.tree import list_entries
from pipeline.manifest import MAX_MANIFEST_BYTES, DatasetError
from pipeline.progress import ProgressBar
from pipeline.sources.compressed import is_compressed, plain, stem
from pipeline.sources.source import Sample, Source, hold_out, ordered
from pipeline.sources.splits import find_splits, say_held_out, say_left_out, split_of
from pipeline.sources.tar import Member, Members, list_members

MAX_LABEL_BYTES = 1_000_000
"""Largest cls or json that is read."""


def list_shards(folder: Path) -> list[Path]:
    """The plain tars in a folder; where there are none, and no folders either, which may be those
    of classes, the compressed ones."""
    folders, files = list_entries(folder)
    plain_tars = [path for path in files if path.suffix == ".tar"]
    return plain_tars or ([] if folders else list(filter(is_compressed, files)))


def holds_shards(folder: Path) -> bool:
    """Whether there are shards in the folder, or in one of it that is named as a split."""
    named = find_splits(list_entries(folder).folders).named
    return any(map(list_shards, (folder, *named)))


def shards_source(folder: Path, val_fraction: float, class_names: dict[str, str]) -> Source:
    """A folder with train/*.tar and val/*.tar, or one without val/: then a share is held out.

    The splits may have other usual names; a test split is left out. Class n is entry n of
    `class_names` ({ID: name}), else of manifest.json as a packed dataset has it, else the number n
    itself. Raises DatasetError.
    """
    splits = find_splits(list_entries(folder).folders)
    in_train = list_shards(splits.train) if splits.train else []
    held_out = list_shards(splits.val) if splits.val else []
    shards, left_out = (in_train, list_shards(folder)) if in_train else _unsplit(folder)
    if not shards:
        raise DatasetError(
            f"{folder}: there are no shards to train on; put some into {folder / 'train'}"
        )
    left_out += [path for path in splits.test if list_shards(path)]
    for used in {shard.parent for shard in shards + held_out}:
        beside = [path for path in list_entries(used).files if is_compressed(path)]
        if beside and not is_compressed(list_shards(used)[0]):
            say_left_out(beside, ": there are plain shards beside; decompress all, or none")
    say_left_out(left_out, "; to measure a model on a test split, pack it as another folder's val/")
    if in_train and not held_out:
        say_held_out(in_train[0].parent)
    train = _samples(shards)
    val = _samples(held_out) if held_out else []
    classes = _classes(folder, train, val, class_names)
    samples = ordered(train, val) if held_out else hold_out(train, val_fraction)
    return Source(classes, samples, Members())


def _unsplit(folder: Path) -> tuple[list[Path], list[Path]]:
    """The shards in the folder itself, and those of them that are named as of the test split.

    Raises DatasetError where names speak of validation beside others.
    """
    shards = list_shards(folder)
    val = [path for path in shards if _speaks_of("val", path)]
    if val and len(val) < len(shards):
        raise DatasetError(
            f"{folder}: {val[0].name} lies beside shards of another split; "
            "move or link them into train/ and val/"
        )
    test = [path for path in shards if _speaks_of("test", path)]
    if len(test) == len(shards):
        return shards, []
    return [path for path in shards if path not in test], test


def _speaks_of(split: str, path: Path) -> bool:
    return any(split_of(word) == split for word in re.findall("[a-z]+", path.stem.lower()))


def _samples(shards: list[Path]) -> list[Sample]:
    """Keys that repeat over the shards are put below the name of their shard."""
    found: list[tuple[Path, str, int, str]] = []
    with ProgressBar(f"list {shards[0].parent}", len(shards), "shards") as progress:
        for shard in shards:
            for key, fields in _fields(plain(shard)).items():
                image, label = _read(f"{shard}, sample {key}", fields)
                found.append((shard, key, label, image.location))
            progress.advance(1)
    if not found:
        raise DatasetError(f"{shards[0].parent}: the shards hold no samples; write them again")
    repeated = len({key for _, key, _, _ in found}) < len(found)
    samples: dict[str, Sample] = {}
    for shard, key, label, location in found:
        unique = (f"{stem(shard)}/{key}" if repeated else key).replace(".", "_")
        if unique in samples:
            raise DatasetError(
                f"{location}: the sample's key is {unique}, with _ for every dot, and so is that "
                f"of {samples[unique].location}; rename one of them"
            )
        samples[unique] = Sample(unique, label, location)
    return list(samples.values())


def _fields(shard: Path) -> dict[str, dict[str, Member]]:
    """{key: {field: file}}: the key ends at the first dot of the file's name, the field begins."""
    fields: dict[str, dict[str, Member]] = defaultdict(dict)
    for member in list_members(shard):
        folder, slash, name = member.name.removeprefix("./").rpartition("/")
        stem, dot, field = name.partition(".")
        if stem and dot:
            fields[f"{folder}{slash}{stem}"][field.lower()] = member
    return fields


def _read(sample: str, fields: dict[str, Member]) -> tuple[Member, int]:
    """Where the image lies, and the label."""
    image = next((fields[field] for field in ENDINGS if field in fields), None)
    if image is None:
        raise DatasetError(
            f"{sample}: there is no image, only {', '.join(sorted(fields))}; "
            f"add one as {', '.join(USUAL_ENDINGS[:-1])} or {USUAL_ENDINGS[-1]}, "
            "or remove the sample"
        )
    field = next((field for field in ("cls", "json") if field in fields), None)
    if field is None:
        raise DatasetError(
            f"{sample}: there is no label, only {', '.join(sorted(fields))}; "
            "add a number as cls, or json with an integer `label`, or remove the sample"
        )
    try:
        if (size := fields[field].size) > MAX_LABEL_BYTES:
            raise ValueError(f"it has {size:,} bytes; the limit is {MAX_LABEL_BYTES:,}")
        return image, _label(field, Members().read(fields[field].location))
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{sample}: there is no label in {field} ({error}); correct it"
        ) from None


def _label(field: str, content: bytes) -> int:
    if field == "cls":
        label: object = int(content) if content.strip().isdigit() else content[:40]
    else:
        values = json.loads(content)
        if not isinstance(values, dict):
            raise ValueError("it is not an object with `label`")
        label = values.get("label", values.get("cls"))
    if type(label) is not int or label < 0:
        raise ValueError(f"{label!r} is not a whole number of 0 or more")
    return label


def _classes(
    folder: Path, train: list[Sample], val: list[Sample], class_names: dict[str, str]
) -> tuple[ClassLabel, ...]:
    highest = max(train + val, key=lambda sample: sample.label)
    count = highest.label + 1
    if class_names:
        listed = tuple(class_label(i, name) for i, name in class_names.items())[:count]
    else:
        listed = _manifest_classes(folder / "manifest.json")
    if listed and len(listed) < count:
        raise DatasetError(
            f"{highest.location}: the label is {highest.label}, but "
            f"{'--class-names' if class_names else folder / 'manifest.json'} lists only "
            f"{len(listed)} classes; give --class-names a file with a line for each class"
        )
    count = max(count, len(listed))
    if count < 2:
        raise DatasetError(f"{folder}: every label is 0; a classifier needs at least two classes")
    trained = {sample.label for sample in train}
    absent = next((label for label in range(count) if label not in trained), None)
    if absent is not None:
        raise DatasetError(
            f"{folder}: no training image has label {absent}, though labels go from 0 to "
            f"{count - 1}; add such images, or number the classes without gaps"
        )
    return listed or tuple(class_label(str(n), str(n)) for n in range(count))


class _Manifest(BaseModel):
    """What is read of a manifest.json here; another program's may lack it."""

    classes: tuple[ClassLabel, ...] = ()


def _manifest_classes(path: Path) -> tuple[ClassLabel, ...]:
    if not path.exists():
        return ()
    try:
        content = read_at_most(path, MAX_MANIFEST_BYTES)
        return _Manifest.model_validate_json(content).classes
    except (OSError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else fault(error)
        raise DatasetError(
            f"{path}: cannot read its classes ({reason}); "
            "list them in a file and name it with --class-names"
        ) from None
