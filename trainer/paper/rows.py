"""Rows that are finished: a file each, so that a command that was killed goes on with the others.

A file holds nothing of when and how long, so that the same row gives the same bytes; but for rows
that measure just that.
"""

import json
from pathlib import Path

from alexnet import atomic
from trainer.paper.experiment import Result, Row, Settings


class Rows:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, row: Row) -> Path:
        return self._folder / f"{row.key}.json"

    def found(self, row: Row) -> Result | None:
        """The row's result, as it was kept; None where there is none."""
        path = self.path(row)
        return json.loads(path.read_text())["found"] if path.exists() else None

    def settings(self, function: str) -> list[Settings]:
        """Of all rows of a function that are kept, whoever computed them; in the order of names."""
        paths = sorted((self._folder / function).glob("*.json"))
        return [json.loads(path.read_text())["settings"] for path in paths]

    def keep(self, row: Row, found: Result) -> None:
        path = self.path(row)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps({"settings": row.settings, "found": found}, indent=1, sort_keys=True)
        atomic.write(path, content.encode() + b"\n")
