"""Text files that people give: lists of classes, keys, ground truth."""

import codecs
import json
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from alexnet.bounds import read_at_most
from alexnet.command import UserError

MAX_BYTES = 16_000_000
"""Largest file that is read; the names of ImageNet's 21,841 classes have a million."""
BREAK = re.compile(r"\r\n|\n|\r")
MARKS = (  # UTF-32's begins with UTF-16's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MARK = "\ufeff"
"""A byte-order mark, decoded; within a text it is invisible."""
PRINTED = re.compile(r"\s*[\[{<(]|(?:\s*['\"]?\d+['\"]?\s*:.*(?:\n|$))+\Z")
"""How JSON, a printed dictionary or list, its inner lines, YAML and a web page begin."""


def read_lines(path: Path, what: str, form: str, limit: int = MAX_BYTES) -> list[str]:
    """The lines of a file in UTF-8, or in what its byte-order mark names, without that mark and
    without their ends, \\n, \\r\\n or \\r; an end after the last line begins no other.

    `what` the file holds, and in what `form`, is for the text of UserError, which is raised where
    the file cannot be read or decoded, has more than `limit` bytes, or a control character, a tab
    apart.
    """
    try:
        data = read_at_most(path, limit)
    except OSError as error:
        raise UserError(
            f"{path}: the {what} cannot be read ({error.strerror}); give a file of {form}"
        ) from None
    mark, encoding = next((found for found in MARKS if data.startswith(found[0])), (b"", "utf-8"))
    data = data[len(mark) :]
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, errors="replace")
        place = f"{path}, line {len(BREAK.split(before))}"
        raise UserError(
            f"{place}: the {what} are not in {encoding.upper()} "
            f"(byte 0x{data[error.start]:02X}); save the file as UTF-8"
        ) from None
    lines = BREAK.split(text)
    if not lines[-1]:
        del lines[-1]
    for number, line in enumerate(lines, 1):
        if hidden := unprintable(line.replace("\t", " ")):
            raise UserError(
                f"{path}, line {number}: the {what} contain the control character {hidden}; "
                "remove it, and save the file as UTF-8"
            )
    return lines


def read_names(path: Path, form: str) -> list[str]:
    """`read_lines` of class names; of Keras's imagenet_class_index.json lines `ID name`, as those
    of synset_words.txt. Raises UserError also where the file is another dictionary, or a list, as
    JSON, YAML or Python write it."""
    lines = read_lines(path, "class names", form)
    if (index := _class_index("\n".join(lines))) is not None:
        return _of_class_index(path, index)
    if PRINTED.match("\n".join(line for line in lines if line.strip())):
        first = next(line for line in lines if line.strip())
        raise UserError(
            f"{path}, line {lines.index(first) + 1}: {first.strip()[:40]!r} begins a dictionary, "
            f"a list or a page, not {form}; write the class names so"
        )
    return lines


def _class_index(text: str) -> list[tuple[str, list[Any]]] | None:
    """The items of {"0": ["n01440764", "tench"], …}, JSON, in their order; None of other texts."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        items = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    return items if all(isinstance(value, list) for _, value in items) and items else None


def _of_class_index(path: Path, items: list[tuple[str, list[Any]]]) -> list[str]:
    """Its lines `ID name` in the order of the numbers. Raises UserError."""
    line: dict[str, str] = {}
    ids: set[str] = set()
    for key, value in items:
        pair = [text for text in value if isinstance(text, str) and not unprintable(text)]
        if len(pair) != len(value) or len(pair) != 2 or len(pair[0].split()) != 1 or not pair[1]:
            raise UserError(f'{path}, "{key}": write ["ID", "name"], the ID without spaces')
        if key in line or pair[0] in ids:
            twice = f'"{key}"' if key in line else pair[0]
            raise UserError(f"{path}: {twice} is there twice; keep one of them")
        ids.add(pair[0])
        line[key] = " ".join(pair)
    numbers = [str(number) for number in range(len(line))]
    if missing := [number for number in numbers if number not in line]:
        raise UserError(
            f'{path}: the file has {len(line):,} classes, but none is "{missing[0]}"; number them '
            f'"0" to "{numbers[-1]}"'
        )
    return [line[number] for number in numbers]


def unprintable(text: str) -> str:
    """The first control character, separator of lines or byte-order mark in `text`, as U+0000;
    empty where there is none."""
    for character in text:
        if unicodedata.category(character) in ("Cc", "Zl", "Zp") or character == MARK:
            return f"U+{ord(character):04X}"
    return ""


def _printable(text: str) -> str:
    if hidden := unprintable(text.replace("\t", " ")):
        raise ValueError(f"it contains the control character {hidden}")
    return text


LONGEST_NAME = 512
Name = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(_printable)]
"""Text that is shown to people and sent in headers: without control characters, a tab apart."""
