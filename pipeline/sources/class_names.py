"""What the classes of a source are called."""

from pathlib import Path

from alexnet.text import read_names
from pipeline.manifest import DatasetError

SEPARATORS = {",", ";", "|"}
"""Of tables, which a name does not begin with, and an ID does not hold."""
FORM = "lines `ID name`, as in synset_words.txt"


def read_class_names(path: Path | None) -> dict[str, str]:
    """Lines `ID name`, as in ImageNet's synset_words.txt -> {ID: name}; no path, no names. Raises
    UserError."""
    if path is None:
        return {}
    names: dict[str, str] = {}
    for number, line in enumerate(read_names(path, FORM), 1):
        words = line.split(maxsplit=1)
        if len(words) == 1 or (words and set(words[0] + words[1][0]) & SEPARATORS):
            raise DatasetError(
                f"{path}, line {number}: {line.strip()[:60]!r} is not `ID name`, as in "
                "synset_words.txt: the ID, a space and the name, without a line of titles"
            )
        if words and words[0] in names:  # shards count the lines: one too many moves the others
            raise DatasetError(f"{path}, line {number}: {words[0]} has a line already; keep one")
        if words:
            names[words[0]] = words[1].strip()
    return names
