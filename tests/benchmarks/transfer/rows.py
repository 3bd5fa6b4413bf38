"""Which photographs a row of the table trains on, and what its networks answered."""

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from statistics import mean, stdev

from pydantic import BaseModel, ConfigDict

from tests.benchmarks.harness import table

CONTENDERS = FINETUNED, SCRATCH = "fine-tuned", "from scratch"
Photographs = Mapping[str, Sequence[str]]
"""The names of a split's files, by the ID of their class."""


class Row(BaseModel):
    """One network of each contender, trained on the same photographs."""

    model_config = ConfigDict(frozen=True)

    photographs: int
    """Of each class."""
    seed: int
    steps: Mapping[str, int]
    """That each contender took."""
    correct: Mapping[str, int]
    """Validation images that each classifies correctly, by ten views."""
    images: int
    """Validation images."""

    def accuracy(self, contender: str) -> float:
        return self.correct[contender] / self.images


def labels(train: Photographs, val: Photographs) -> str:
    """The table of photographs that `pack --labels` takes."""
    lines = [
        f"{split}/{class_id}/{file},{class_id},{split}"
        for split, photographs in (("train", train), ("val", val))
        for class_id, files in photographs.items()
        for file in files
    ]
    return "\n".join(["file,label,split", *lines, ""])


def drawn(photographs: Photographs, count: int, seed: int) -> Photographs:
    """The first `count` of each class after a shuffle, so that of one seed the smaller choices are
    parts of the larger ones."""
    chosen = {}
    for class_id, files in photographs.items():
        shuffled = sorted(files)
        random.Random(f"{seed} {class_id}").shuffle(shuffled)
        chosen[class_id] = shuffled[:count]
    return chosen


def epochs(images: int, batch: int, steps: int) -> int:
    """How many make at least so many steps."""
    return ceil(steps / ceil(images / batch))


def kept(path: Path) -> list[Row]:
    """The rows that an earlier command finished, one a line."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Row.model_validate(json.loads(line)) for line in lines]


def accuracies(rows: Iterable[Row], contender: str) -> dict[int, list[float]]:
    """{photographs of a class: the accuracy of each seed}."""
    found: dict[int, list[float]] = {}
    for row in sorted(rows, key=lambda row: (row.photographs, row.seed)):
        found.setdefault(row.photographs, []).append(row.accuracy(contender))
    return found


def percent(values: Sequence[float]) -> str:
    """The mean, and the sample standard deviation where there are several values."""
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"


def accuracy_table(rows: Sequence[Row]) -> str:
    """Mean and sample standard deviation over the seeds, in percent, and the steps of each."""
    steps = {row.photographs: row.steps for row in rows}
    tuned, scratch = (accuracies(rows, contender) for contender in CONTENDERS)
    lines = []
    for count in tuned:
        gains = [100 * (a - b) for a, b in zip(tuned[count], scratch[count], strict=True)]
        lines.append(
            (
                f"{count}", f"{len(gains)}", percent(tuned[count]), percent(scratch[count]),
                f"{mean(gains):+.1f} ({min(gains):+.1f} to {max(gains):+.1f})",
                *(f"{steps[count][contender]:,}" for contender in CONTENDERS),
            )
        )  # fmt: skip
    head = (
        "photographs a class", "seeds", *(f"{contender}, %" for contender in CONTENDERS),
        "gain in points, lowest and highest", *(f"steps, {contender}" for contender in CONTENDERS),
    )  # fmt: skip
    return table(head, lines)
