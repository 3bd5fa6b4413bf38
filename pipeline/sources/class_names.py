"""What the classes of a source are called."""

import os
from collections.abc import Iterable
from pathlib import Path

from alexnet.classes import ClassLabel
from alexnet.text import read_names, unprintable
from pipeline.manifest import DatasetError

FORM = "lines `ID name`, as in synset_words.txt"


def read_class_names(path: Path | None) -> dict[str, str]:
    """Lines `ID name`, as in ImageNet's synset_words.txt -> {ID: name}; no path, no names. Raises
    UserError."""
    if path is None:
        return {}
    names: dict[str, str] = {}
    for number, line in enumerate(read_names(path, FORM), 1):
        words = line.split(maxsplit=1)
        if len(words) == 1:
            raise DatasetError(f"{path}, line {number}: write `ID name`, as in synset_words.txt")
        if words and words[0] in names:  # shards count the lines: one too many moves the others
            raise DatasetError(f"{path}, line {number}: {words[0]} has a line already; keep one")
        if words:
            names[words[0]] = words[1].strip()
    return names


def check_names(classes: Iterable[ClassLabel]) -> None:
    """Raises DatasetError where an ID or a name cannot be written in UTF-8, as the name of a folder
    in another encoding, or where it has a control character: a dataset and a model hold both."""
    for label in classes:
        for text in (label.id, label.name):
            try:
                text.encode()
            except UnicodeEncodeError:
                shown = os.fsencode(text).decode(errors="backslashreplace")
                raise DatasetError(
                    f"class {shown}: this name is not in UTF-8; rename its folder, "
                    "for example with convmv -f latin1 -t utf8"
                ) from None
            if hidden := unprintable(text):
                raise DatasetError(
                    f"class {text!r}: this name contains the control character {hidden}; rename it"
                )
