"""The splits of a dataset by the names that people give to their folders."""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple, cast

from pipeline.manifest import DatasetError

WORD = (
    r"(?:(?P<train>train|training)|(?P<val>val|valid|validation|dev|eval|evaluation)"
    r"|(?P<test>test|testing))"
)
NAME = re.compile(WORD + "(?:[-_ ]?(?:set|split|data|images))?", re.IGNORECASE)
"""The usual names: `valid`, `Validation`, `test_set` and so on."""
WITHIN = re.compile(f"(?<![a-z]){WORD}(?![a-z])", re.IGNORECASE)
Split = Literal["train", "val", "test"]


class Splits(NamedTuple):
    """Paths that are named as splits, and the others, in the order in which they came."""

    train: Path | None
    val: Path | None
    test: tuple[Path, ...]
    others: tuple[Path, ...]

    @property
    def named(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.train, self.val, *self.test) if path)


def split_of(name: str) -> Split | None:
    """The split that a folder of this name holds, or None where the name is not a split's."""
    match = NAME.fullmatch(name)
    return cast(Split, match.lastgroup) if match else None


def find_splits(folders: Iterable[Path]) -> Splits:
    """Tell splits by the names of folders.

    Of several names for one split `train` or `val` itself is taken, and the rest are others.
    Raises DatasetError where neither is it.
    """
    found: dict[str | None, list[Path]] = {"train": [], "val": [], "test": [], None: []}
    for folder in folders:
        found[split_of(folder.name)].append(folder)
    for split in ("train", "val"):
        named = found[split]
        if len(named) > 1:
            exact = [folder for folder in named if folder.name == split]
            if not exact:
                raise DatasetError(
                    f"{named[0].parent}: {_list(named)} are names of one split; keep one of them, "
                    f"or name it {split}"
                )
            found[None] += [folder for folder in named if folder.name != split]
            found[split] = exact
    train, val = (found[split][0] if found[split] else None for split in ("train", "val"))
    return Splits(train, val, tuple(found["test"]), tuple(found[None]))


def alike(folders: Iterable[Path]) -> tuple[Path, ...]:
    """Folders whose names differ in the word for a split alone, such as `cats_train` and
    `cats_val`; empty where there are none."""
    found: defaultdict[str, dict[str | None, Path]] = defaultdict(dict)
    for folder in folders:
        if word := WITHIN.search(folder.name):
            rest = folder.name[: word.start()] + folder.name[word.end() :]
            found[rest.lower()].setdefault(word.lastgroup, folder)
    return next((tuple(of.values()) for of in found.values() if len(of) > 1), ())


def say_left_out(paths: Iterable[Path], remedy: str) -> None:
    """Say on stderr that splits and other folders are not used."""
    if left := list(paths):
        print(
            f"{left[0].parent}: {_list(left)} left out: neither trained nor validated on{remedy}",
            file=sys.stderr,
            flush=True,
        )


def say_held_out(train: Path) -> None:
    """Say on stderr that a share of `train` is held out, for want of a validation split."""
    print(
        f"{train.parent}: nothing to validate on beside {train.name}/, so a share of each class "
        "in it is held out",
        file=sys.stderr,
        flush=True,
    )


def _list(paths: Iterable[Path]) -> str:
    return ", ".join(f"{path.name}{'/' if path.is_dir() else ''}" for path in paths)
