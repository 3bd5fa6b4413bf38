"""What an experiment of the paper is: rows that are computed one by one, and what they say."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from alexnet.store import url

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Settings = Mapping[str, Any]
"""All that a row's result depends on, as JSON."""
Result = Mapping[str, Any]
"""What was found, as JSON: the same bytes from the same settings on the same kind of machine."""


class Place(NamedTuple):
    """Where and with what a row is computed; its result does not depend on where."""

    data: url.Place
    work: Path
    """The folder of what rows leave behind, such as trained networks."""
    threads: int
    gpu: bool


@dataclass(frozen=True)
class Row:
    """One training, by a function that can travel to another process."""

    name: str
    """For people."""
    run: Callable[[Settings, Place], Result]
    settings: Settings
    data: url.Place

    @property
    def key(self) -> str:
        """Rows of the same function and settings are the same row, whoever wants them."""
        text = json.dumps(self.settings, sort_keys=True)
        return f"{self.run.__name__}/{hashlib.sha256(text.encode()).hexdigest()[:16]}"


Found = Callable[[Row], Result | None]
"""The result of a row; None where it has not been computed."""


class Table(NamedTuple):
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


class Outcome(NamedTuple):
    """What the rows of an experiment say."""

    paragraphs: Sequence[str]
    """The outcome beside the paper's, in words; one for each result that is not as in the paper."""
    numbers: Mapping[str, Any]
    """The same for programs, as JSON."""
    table: Table
    figure: "Figure"


class Experiment(ABC):
    """One of the paper's experiments on given data, at a given size."""

    name: ClassVar[str]
    title: ClassVar[str]

    @abstractmethod
    def rows(self, found: Found) -> list[Row]:
        """The rows that are wanted, as far as that can be told by those that are found. When all of
        them are found and no others are wanted, the experiment is done."""

    @abstractmethod
    def outcome(self, found: Found) -> Outcome:
        """What the rows say, once all are found."""


def counted(count: int, noun: str) -> str:
    """1 seed, 5 seeds."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
