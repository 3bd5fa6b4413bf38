"""Tables that say which label each photograph has: CSV, or JSON Lines."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alexnet.text import read_lines
from pipeline.manifest import DatasetError
from pipeline.sources.splits import Split, split_of

FORM = "rows with the name of a photograph and its label, as CSV or JSON Lines"
ENDINGS = (".csv", ".tsv", ".jsonl")
"""Of the tables that are looked for in a folder."""
DELIMITERS = ",;\t|"
FILE_COLUMNS = ("file", "file_name", "filename", "path", "image")
LABEL_COLUMNS = ("label", "class", "classid", "class_id", "target")
SPLIT_COLUMN = "split"
"""The usual names of columns, in lower case."""
MAX_BYTES = 500_000_000
"""Largest table that is read; one of the 14 million images of ImageNet has 400 million."""
SHOWN = 100
"""Characters of a value that are repeated to the user."""


class Columns(NamedTuple):
    """The names of the columns to read; None: the one that has a usual name."""

    file: str | None = None
    label: str | None = None


ANY_COLUMNS = Columns()


class Row(NamedTuple):
    place: str
    """Which row of which table, for people."""
    table: Path
    file: str
    """As the table has it."""
    label: str
    split: Split | None


class _Record(NamedTuple):
    place: str
    value: dict[str, Any]
    """By the name of the column."""


def read_table(path: Path, columns: Columns) -> Iterator[Row]:
    """The rows of a table, in its order.

    Raises UserError where the table cannot be read, where it is not clear which columns are meant,
    and, with the place of the row, where one lacks its file or its label.
    """
    names, records = _records(path)
    file, label = _columns(path, names, columns)
    split = next((name for name in names if name.lower() == SPLIT_COLUMN), None)
    for record in records:
        name, label_id = _text(record, file), _text(record, label)
        if not name:
            raise DatasetError(
                f"{record.place}: {file} is empty; name the photograph, or remove the row"
            )
        if not label_id:
            raise DatasetError(
                f"{record.place}: {label} of {shown(name)} is empty; give it a label, or remove "
                "the row"
            )
        word = _text(record, split) if split else ""
        if split and not split_of(word):
            raise DatasetError(
                f"{record.place}: {split} of {shown(name)} is {shown(word)}; write train, val or "
                "test there, or call the column otherwise if it means something else"
            )
        yield Row(record.place, path, name, label_id, split_of(word))


def tells_labels(path: Path, columns: Columns) -> bool:
    """Whether a metadata.csv or metadata.jsonl says which label a file has: others have captions or
    boxes alone."""
    try:
        _columns(path, _records(path)[0], columns._replace(file=columns.file or "file_name"))
    except DatasetError:
        return False
    return True


def shown(value: str) -> str:
    """A value of a table, on one line."""
    return repr(value if len(value) <= SHOWN else f"{value[:SHOWN]}…")


def _records(path: Path) -> tuple[list[str], list[_Record]]:
    """The names of the columns, and the rows that are not empty."""
    lines = read_lines(path, "labels", FORM, MAX_BYTES)
    first = next((line.lstrip() for line in lines if line.strip()), "")
    names, records = (_json if first.startswith(("{", "[")) else _csv)(path, lines)
    if not records:
        raise DatasetError(f"{path}: there are no rows in it; give a table of {FORM}")
    return names, records


def _csv(path: Path, lines: list[str]) -> tuple[list[str], list[_Record]]:
    def rows(delimiter: str) -> Iterator[list[str]]:
        ended = (f"{line}\n" for line in lines)  # a quoted value may have several
        return csv.reader(ended, delimiter=delimiter, skipinitialspace=True, strict=True)

    number, names, records = 0, list[str](), list[_Record]()
    try:
        delimiter = max(DELIMITERS, key=lambda each: len(next(filter(None, rows(each)), ())))
        for number, cells in enumerate(rows(delimiter), 1):
            values, place = [cell.strip() for cell in cells], f"{path}, row {number}"
            if not names:
                names = values
            elif any(values[len(names) :]):
                raise DatasetError(
                    f"{place}: it has {len(values)} values, but the table {len(names)} columns; "
                    f"put double quotes around a value that contains {delimiter!r}"
                )
            elif any(values):
                records.append(_Record(place, dict(zip(names, values, strict=False))))
    except csv.Error as error:
        raise DatasetError(
            f"{path}, row {number + 1}: it cannot be read as CSV ({error}); save the table as CSV "
            "anew, with double quotes around values that contain quotes or line breaks"
        ) from None
    return names, records


def _json(path: Path, lines: list[str]) -> tuple[list[str], list[_Record]]:
    names, records = dict[str, None](), list[_Record]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise DatasetError(
                f"{path}, line {number}: {shown(line)} is no JSON object; write one for each "
                'photograph, each on a line: {"file_name": "1.jpg", "label": "cat"}'
            )
        names |= dict.fromkeys(value)
        records.append(_Record(f"{path}, line {number}", value))
    return list(names), records


def _columns(path: Path, names: list[str], columns: Columns) -> tuple[str, str]:
    """The columns of file and label."""
    return (
        _column(path, names, "--file-column", columns.file, FILE_COLUMNS),
        _column(path, names, "--label-column", columns.label, LABEL_COLUMNS),
    )


def _column(
    path: Path, names: list[str], option: str, asked: str | None, usual: Sequence[str]
) -> str:
    found = [name for name in names if name == asked]
    if not found:
        words = (asked.lower(),) if asked else usual
        found = [name for name in names if name.lower() in words]
    if len(found) == 1:
        return found[0]
    if asked and not found:
        said, remedy = f"it has no column {shown(asked)}", f"name one of its columns with {option}"
    elif len(set(found)) < len(found):
        said, remedy = f"it has two columns {shown(found[0])}", "rename one of them"
    elif found:
        said = f"its columns {' and '.join(found)} may both be meant"
        remedy = f"name the right one: {option} {found[0]}"
    else:
        said = f"none of its columns has one of the usual names ({', '.join(usual)})"
        remedy = f"name the right one with {option}"
    there = shown(", ".join(names))[1:-1]
    raise DatasetError(f"{path}: {said}; {remedy}. The columns are: {there}")


def _text(record: _Record, column: str) -> str:
    """A value as text, empty where there is none."""
    value = record.value.get(column)
    if value is None:
        return ""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise DatasetError(
            f"{record.place}: {column} is {shown(json.dumps(value))}; write it as text, or as a "
            "whole number"
        )
    return str(value).strip()
