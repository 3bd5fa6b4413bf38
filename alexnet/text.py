"""Text files that people give: lists of classes, keys, ground truth."""

import codecs
import re
import unicodedata
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from alexnet.command import UserError

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


def read_lines(path: Path, what: str, form: str) -> list[str]:
    """The lines of a file in UTF-8, or in what its byte-order mark names, without that mark and
    without their ends, \\n, \\r\\n or \\r; an end after the last line begins no other.

    `what` the file holds, and in what `form`, is for the text of UserError, which is raised where
    the file cannot be read or decoded, and where a line has a control character, a tab apart.
    """
    try:
        data = path.read_bytes()
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
    """`read_lines` of class names. Raises UserError also where the file is no list of lines, but a
    dictionary or list as JSON, YAML or Python write it."""
    lines = read_lines(path, "class names", form)
    if PRINTED.match("\n".join(line for line in lines if line.strip())):
        first = next(line for line in lines if line.strip())
        raise UserError(
            f"{path}, line {lines.index(first) + 1}: {first.strip()[:40]!r} begins a dictionary, "
            f"a list or a page, not {form}; write the class names so"
        )
    return lines


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


Name = Annotated[str, Field(max_length=512), AfterValidator(_printable)]
"""Text that is shown to people and sent in headers: without control characters, a tab apart."""
