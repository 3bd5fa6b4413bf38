"""The table of answers: its columns, and the files that it is written to."""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from alexnet.classes import ClassLabel
from alexnet.command import UserError
from pipeline.sources.unlabelled import Photograph

ROW_GROUP = 2**16
"""Rows of a Parquet file that are written, and read, at once."""
NONE = "none_of_these"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""How a cell begins that a spreadsheet would compute: https://owasp.org/www-community/attacks/CSV_Injection"""


def schema(top: int) -> pa.Schema:
    """Of tables with `top` labels for a photograph."""
    guesses = (
        ((f"id{n}", pa.string()), (f"label{n}", pa.string()), (f"probability{n}", pa.float32()))
        for n in range(1, top + 1)
    )
    return pa.schema(
        [
            ("path", pa.string()),
            ("member", pa.string()),
            *chain(*guesses),
            (NONE, pa.bool_()),
            ("error", pa.string()),
        ]
    )


def table(
    photographs: Sequence[Photograph],
    errors: Sequence[str | None],
    classes: Sequence[ClassLabel],
    label_NT: np.ndarray,
    probability_NT: np.ndarray,
    none_N: Sequence[bool | None],
) -> pa.Table:
    """N photographs, each with T labels and their probabilities, best first, and whether it shows
    none of the classes where that is known; or with an error."""
    wrong_N = np.array([error is not None for error in errors], bool)

    def guess(column_N: Sequence[Any] | np.ndarray, kind: pa.DataType) -> pa.Array:
        return pa.array(column_N, kind, mask=wrong_N)

    columns = [
        pa.array([_text(photograph.path) for photograph in photographs], pa.string()),
        pa.array([_text(photograph.member) for photograph in photographs], pa.string()),
    ]
    for label_N, probability_N in zip(label_NT.T, probability_NT.T, strict=True):
        chosen = [classes[label] for label in label_N]
        columns += (
            guess([label.id for label in chosen], pa.string()),
            guess([label.name for label in chosen], pa.string()),
            guess(probability_N, pa.float32()),
        )
    columns.append(guess(none_N, pa.bool_()))
    columns.append(pa.array([_text(error) for error in errors], pa.string()))
    return pa.table(columns, schema(label_NT.shape[1]))


def _text(text: str | None) -> str | None:
    """As in all that the project prints, bytes that are not UTF-8 as \\xff."""
    return None if text is None else os.fsencode(text).decode(errors="backslashreplace")


Write = Callable[[BinaryIO, pa.Schema, Iterable[pa.Table]], None]
"""Writes tables of one schema as one file; they pass through the memory one by one."""


def writer(path: Path) -> Write:
    """What writes the file that `path` names by its ending. Raises UserError."""
    if found := WRITERS.get(path.suffix.lower()):
        return found
    raise UserError(
        f"--out {path}: the ending tells the format, and is none of {', '.join(WRITERS)}"
    )


def write_parquet(file: BinaryIO, of: pa.Schema, tables: Iterable[pa.Table]) -> None:
    with parquet.ParquetWriter(file, of) as target:
        gathered: list[pa.Table] = []
        for rows in chain(tables, [None]):
            if gathered and (rows is None or sum(map(len, gathered)) >= ROW_GROUP):
                target.write_table(pa.concat_tables(gathered), row_group_size=2 * ROW_GROUP)
                gathered = []
            gathered += [rows] if rows is not None else []


def write_csv(file: BinaryIO, of: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """As RFC 4180 has it, in UTF-8. An apostrophe goes before what a spreadsheet would compute."""
    lines = io.StringIO()
    target = csv.writer(lines)
    target.writerow(of.names)
    for rows in tables:
        for row in _rows(rows):
            target.writerow([_cell(value) for value in row.values()])
        file.write(_taken(lines))
    file.write(_taken(lines))


def _taken(lines: io.StringIO) -> bytes:
    content = lines.getvalue().encode()
    lines.seek(0)
    lines.truncate()
    return content


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"  # as the page's table has it
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def write_jsonl(file: BinaryIO, of: pa.Schema, tables: Iterable[pa.Table]) -> None:
    """An object a line; `guesses` and `none_of_these` as in an answer of the server."""
    top = sum(name.startswith("probability") for name in of.names)
    for rows in tables:
        lines = []
        for row in _rows(rows):
            guesses = [
                {name: row[f"{name}{n}"] for name in ("id", "label", "probability")}
                for n in range(1, top + 1)
                if row["error"] is None
            ]
            line = {"path": row["path"], "member": row["member"], "guesses": guesses}
            line |= {NONE: row[NONE], "error": row["error"]}
            lines.append(json.dumps(line, ensure_ascii=False) + "\n")
        file.write("".join(lines).encode())


def _rows(rows: pa.Table) -> Iterator[dict[str, Any]]:
    """Each with its probabilities in as few digits as tell one float32 from the next."""
    columns = {name: rows.column(name).to_pylist() for name in rows.column_names}
    for name in columns:
        if name.startswith("probability"):
            columns[name] = [
                None if value is None else float(str(np.float32(value))) for value in columns[name]
            ]
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


WRITERS: dict[str, Write] = {
    ".parquet": write_parquet,
    ".csv": write_csv,
    ".jsonl": write_jsonl,
}
