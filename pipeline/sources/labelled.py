"""A folder of photographs whose labels are in tables."""

import glob
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from alexnet.classes import class_label
from alexnet.tree import LeftOut, files_below, list_entries
from pipeline.manifest import DatasetError
from pipeline.sources.folder import unique_keys
from pipeline.sources.label_table import ENDINGS, Columns, Row, read_table, shown, tells_labels
from pipeline.sources.source import Files, Sample, Source, hold_out, ordered
from pipeline.sources.splits import Split, find_splits, say_held_out, split_of

METADATA = ("metadata.csv", "metadata.jsonl")
"""What Hugging Face's ImageFolder calls them."""


class _Photograph(NamedTuple):
    row: Row
    place: str
    """Its path below the folder, normal."""


def find_tables(labels: Path) -> list[Path]:
    """The table itself, or those at any depth of a folder. Raises DatasetError where there is
    none."""
    if not labels.is_dir():
        return [labels.absolute()]
    folder = labels.absolute()
    tables = [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in ENDINGS and not _is_hidden(path.relative_to(folder))
    ]
    if not tables:
        raise DatasetError(
            f"{labels}: there is no table ({', '.join(ENDINGS)}) in this folder; give a table, or "
            "a folder of them, with --labels"
        )
    return tables


def find_metadata(folder: Path, columns: Columns) -> list[Path]:
    """The metadata.csv or metadata.jsonl of a folder, else those of its folders that are named as
    splits, if they have labels.

    Where nothing else can tell the labels, for want of folders, they are taken as they are.
    """
    folders, files = list_entries(folder)
    tables = [path for path in files if path.name in METADATA]
    if tables and (not folders or all(tells_labels(path, columns) for path in tables)):
        return tables
    splits = find_splits(folders).named if not tables else ()
    tables = [path for each in splits for path in list_entries(each).files if path.name in METADATA]
    return tables if all(tells_labels(path, columns) for path in tables) else []


def labelled_source(
    folder: Path,
    tables: Sequence[Path],
    columns: Columns,
    val_fraction: float,
    class_names: dict[str, str],
) -> Source:
    """The photographs that tables name, as if each lay in a folder of its class.

    Paths are relative to the table or to `folder`, which holds them all. Splits are those of a
    column, else those of folders; without a validation split, `val_fraction` of each class is held
    out, and a test split is left out. Raises UserError, which names the row.
    """
    root = Path(os.path.normpath(folder))
    photographs = _named(root, tables, columns)
    splits = _splits(root, photographs)
    classes = sorted({each.row.label for split in ("train", "val") for each in splits[split]})
    if len(classes) < 2:
        raise DatasetError(
            f"{tables[0]}: every label is {shown(classes[0])}; a classifier needs at least two "
            "classes"
        )
    if splits["test"]:
        _say(f"{root}: left out: the test split ({len(splits['test']):,} photographs)")
    train, val = (_samples(root, splits[split], classes) for split in ("train", "val"))
    return Source(
        tuple(class_label(label, class_names.get(label, label)) for label in classes),
        ordered(train, val) if val else hold_out(train, val_fraction),
        Files(),
    )


class Images(NamedTuple):
    """Photographs to be asked about."""

    classes: dict[str, str]
    """{label: which row of which table has it first, for people}, in label order."""
    samples: list[Sample]
    """In order of their keys."""


def labelled_images(
    folder: Path, tables: Sequence[Path], columns: Columns, *, packed: bool
) -> Images:
    """The photographs that tables name, of one class or more, to measure a model on.

    Where splits are told, by a column or by folders, those of val count, else those of test, and
    one line on stderr says which are left out; else all count. If they are to be found in a dataset
    that was `packed` by the same tables, those of train take the place of test's: it has a share of
    them for validation. Keys are those of the dataset. Raises UserError, which names the row.
    """
    root = Path(os.path.normpath(folder))
    photographs = _asked(root, _named(root, tables, columns), "train" if packed else "test")
    first = {each.row.label: each.row.place for each in reversed(photographs)}
    classes = {label: first[label] for label in sorted(first)}
    return Images(classes, sorted(_samples(root, photographs, [*classes])))


def _named(root: Path, tables: Sequence[Path], columns: Columns) -> dict[str, _Photograph]:
    """{place: photograph} of all rows; also says which files they leave out."""
    rows = (row for path in tables for row in read_table(path, columns))
    photographs = _once(root, (_Photograph(row, _place(row, root)) for row in rows))
    _say_unnamed(root, tables, photographs)
    return photographs


def _asked(root: Path, photographs: dict[str, _Photograph], second: Split) -> list[_Photograph]:
    """Those of the split val, else of `second`, else all."""
    found: dict[Split | None, list[_Photograph]] = {}
    in_column = any(each.row.split for each in photographs.values())
    tops = {place.partition("/")[0]: None for place in photographs}
    in_folders = not in_column and not find_splits(root / top for top in tops).others
    for place, each in photographs.items():
        split = split_of(place.partition("/")[0]) if in_folders else each.row.split
        found.setdefault(split, []).append(each)
    taken = next((split for split in ("val", second) if split in found), None)
    if taken is None:
        if "train" in found:
            _say(f"{root}: no photograph is of the split val or test, so those of train count")
        return [*photographs.values()]
    others = [split for split in found if split != taken]
    if left := [f"{split or 'no split'} ({len(found[split]):,})" for split in others]:
        _say(
            f"{root}: left out: photographs of other splits than {taken}: "
            f"{', '.join(sorted(left))}; to measure on them, give a table of their rows alone"
        )
    return found[taken]


def _once(root: Path, photographs: Iterator[_Photograph]) -> dict[str, _Photograph]:
    """{place: photograph}."""
    found: dict[str, _Photograph] = {}
    again = 0
    for each in photographs:
        first = found.setdefault(each.place, each)
        if (first.row.label, first.row.split) != (each.row.label, each.row.split):
            what = "label" if first.row.label != each.row.label else "split"
            one, other = (str(getattr(row, what)) for row in (each.row, first.row))
            raise DatasetError(
                f"{each.row.place}: {what} of {shown(each.place)} is {shown(one)}, but "
                f"{shown(other)} in {first.row.place}; remove one of the two rows"
            )
        again += first is not each
    if again:
        _say(
            f"{root}: left out: rows that name a photograph again, with the same label ({again:,})"
        )
    return found


def _place(row: Row, root: Path) -> str:
    """Where below `root` the photograph of a row lies."""
    if Path(row.file).is_absolute():
        raise DatasetError(
            f"{row.place}: {shown(row.file)} is an absolute path; write it as it is seen from "
            f"{root}"
        )
    paths = {os.path.normpath(base / row.file): None for base in (row.table.parent, root)}
    inside = [path for path in paths if path.startswith(f"{root}{os.sep}")]
    if not inside:
        raise DatasetError(
            f"{row.place}: {shown(row.file)} leads out of {root}; move the photograph into that "
            "folder, or give a folder that holds all of them as the source"
        )
    there = [os.path.relpath(path, root) for path in inside if _is_file(path)]
    if len(there) == 2:
        raise DatasetError(
            f"{row.place}: {shown(row.file)} may be {there[0]} or {there[1]} in {root}; write "
            f"{there[0]} if that is meant, else move the table into {root}"
        )
    if not there:
        seen = " or ".join(str(Path(path).parent) for path in inside)
        raise DatasetError(
            f"{row.place}: there is no photograph {shown(row.file)} in {seen}; "
            f"{_remedy(row.file, inside)}"
        )
    return there[0]


def _remedy(file: str, paths: Sequence[str]) -> str:
    """What to do about a file that is not there."""
    if "\\" in file:
        return "write / for every \\ in the table"
    for path in map(Path, paths):
        with suppress(OSError):
            if path.is_dir():
                return "this is a folder; name the photographs in it, one in each row"
            if like := sorted(path.parent.glob(f"{glob.escape(path.name)}.*")):
                return f"write names with their endings, as {shown(like[0].name)}"
    return "put it there, correct the name, or remove the row"


def _splits(root: Path, photographs: dict[str, _Photograph]) -> dict[Split, list[_Photograph]]:
    """All are for training where nothing tells splits.

    Raises DatasetError where there is none for training, or no telling which are.
    """
    splits: dict[Split, list[_Photograph]] = {"train": [], "val": [], "test": []}
    if any(each.row.split for each in photographs.values()):
        for place, each in photographs.items():
            if not each.row.split:
                raise DatasetError(
                    f"{each.row.place}: no split is given for {shown(place)}, but other tables "
                    "have a column for it; add the column, with train, val or test"
                )
            splits[each.row.split].append(each)
        if not splits["train"]:
            raise DatasetError(
                f"{root}: no row is of the split train; write train for those to train on"
            )
        if not splits["val"]:
            _say(f"{root}: no row is of the split val, so a share of each class is held out")
    else:
        tops = {
            top: root / top for top in sorted({place.partition("/")[0] for place in photographs})
        }
        train, val, test, others = find_splits(tops.values())
        if (not train or others) and (val or (test and others)):
            names = " and ".join(path.name for path in (val, *test) if path)
            raise DatasetError(
                f"{root}: {names} may mean a split or not, since photographs to train on are not "
                "all in a folder train; add a column split to the table, with train, val or test"
            )
        split_of_top: dict[str, Split] = {}
        if train and not others:
            split_of_top |= {train.name: "train"}
            split_of_top |= {path.name: "test" for path in test}
            if val:
                split_of_top[val.name] = "val"
            else:
                say_held_out(train)
        for place, each in photographs.items():
            splits[split_of_top.get(place.partition("/")[0], "train")].append(each)
    _check_classes(root, splits)
    return splits


def _check_classes(root: Path, splits: dict[Split, list[_Photograph]]) -> None:
    train, val = (
        {each.row.label: each for each in reversed(splits[split])} for split in ("train", "val")
    )
    if val and (odd := sorted(train.keys() ^ val.keys())):
        only = (train | val)[odd[0]]
        raise DatasetError(
            f"{only.row.place}: label {shown(odd[0])} is only in one of the splits train and val; "
            "add photographs of it to the other, or remove its rows"
        )


def _say_unnamed(root: Path, tables: Sequence[Path], photographs: dict[str, _Photograph]) -> None:
    """Say on stderr how many files in the folder no table names."""
    files = files_below([[root]], LeftOut())[root]
    places = [path.relative_to(root).as_posix() for path in files if path not in {*tables}]
    if unnamed := [place for place in places if place not in photographs]:
        name = f"{tables[0].name} does" if len(tables) == 1 else f"the {len(tables):,} tables do"
        _say(
            f"{root}: left out: files that {name} not name ({len(unnamed):,}), such as "
            f"{shown(unnamed[0])}"
        )


def _samples(
    root: Path, photographs: Sequence[_Photograph], classes: Sequence[str]
) -> list[Sample]:
    """Their keys are those of the same files moved into folders of their classes; where a class has
    several files of one name, into folders within it."""
    number = {label: n for n, label in enumerate(classes)}
    moved = [(root / each.row.label.replace("/", "_"), Path(each.place)) for each in photographs]
    named = Counter(folder / place.name for folder, place in moved)
    paths = [
        folder / (place.name if named[folder / place.name] == 1 else place)
        for folder, place in moved
    ]
    keys = unique_keys(root, paths)
    return [
        Sample(keys[path], number[each.row.label], str(root / each.place))
        for path, each in zip(paths, photographs, strict=True)
    ]


def _is_file(path: str) -> bool:
    try:
        return Path(path).is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        return False


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
