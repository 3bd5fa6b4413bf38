"""python -m tests.benchmarks.balance: classes of very uneven size, with and without --balance."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated

from pydantic import Field
from typer import Argument

from alexnet.console import Options
from tests.benchmarks.harness import machine, product, run, table
from trainer.evaluation.results import Results

WAYS = ("none", "sampling", "loss")
EDGE = 3
"""Classes at either end, of which there is a column each."""
SIZE = 96
RECIPE = ("--set", f"size={SIZE}", "--set", "network.width=0.25", "--set", "network.crop=80")


class Uneven(Options):
    """Thin the training images out, train, and evaluate by ten views.

    The first class keeps all its images, the last one in RATIO, those between by equal factors.
    All validation images stay. A command that was interrupted goes on.
    """

    source: Annotated[Path, Argument()]
    """A folder with train/ and val/ of class folders."""
    out: Annotated[Path, Argument()]
    """A folder for dataset, runs and models."""
    ratio: int = Field(20, ge=1)
    """The last class keeps one image in so many."""
    epochs: int = Field(15, ge=1)
    """Epochs of each run."""
    seeds: int = Field(3, ge=2)
    """Runs of each way."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("balance", Uneven, bench, arguments, "imagenette bench/balance")


def bench(options: Uneven) -> int:
    photographs, dataset = options.out / "photographs", options.out / "dataset"
    if not dataset.exists():
        thin(options.source, photographs, options.ratio)
        product("alexnet", "pack", photographs, dataset, "--size", SIZE)
    found: dict[str, list[tuple[float, ...]]] = {way: [] for way in WAYS}
    for seed in range(options.seeds):
        for way, own in found.items():
            own.append(_accuracies(options, dataset, way, seed))
    head = (
        "--balance",
        "all images",
        "mean of the classes",
        f"the {EDGE} rarest classes",
        f"the {EDGE} most frequent",
    )
    rows = [(way, *map(_spread, zip(*own, strict=True))) for way, own in found.items()]
    print(table(head, rows))
    here = {"found": found, "machine": machine(), "options": options.model_dump(mode="json")}
    print(json.dumps(here))
    return 0


def thin(source: Path, out: Path, ratio: int) -> None:
    """Links to the photographs that are kept, those of each class that come first by name."""
    classes = sorted(path.name for path in (source / "train").iterdir())
    for number, name in enumerate(classes):
        files = sorted((source / "train" / name).iterdir())
        share = ratio ** (-number / (len(classes) - 1))
        folder = out / "train" / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in files[: round(share * len(files))]:
            (folder / file.name).unlink(missing_ok=True)
            (folder / file.name).symlink_to(file.absolute())
    (out / "val").unlink(missing_ok=True)
    (out / "val").symlink_to((source / "val").absolute())


def _accuracies(options: Uneven, dataset: Path, way: str, seed: int) -> tuple[float, ...]:
    """In percent: of all images, and the means of the classes, the rarest and the most frequent."""
    name, models = f"{way}{seed}", options.out / "models"
    results = options.out / f"{name}.json"
    if not results.exists():
        product(
            "alexnet", "train", "--data", dataset, "--name", name, "--seed", seed, "--balance", way,
            "--epochs", options.epochs, "--workers", 1, "--resume-if-any",
            "--runs", options.out / "runs", "--models", models, *RECIPE,
        )  # fmt: skip
        command = ("evaluate", models / name, "--data", dataset, "--views", 10)
        product("alexnet", *command, "--workers", 1, "--json", results)
    score = Results.model_validate_json(results.read_bytes()).sections[0].rows[0].scores[0]
    shares = [score.top1 / score.pictures]
    for classes in (score.classes, score.classes[-EDGE:], score.classes[:EDGE]):
        shares.append(mean(c.top1 / c.pictures for c in classes))
    return tuple(100 * share for share in shares)


def _spread(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} % ± {stdev(values):.2f}"


if __name__ == "__main__":
    sys.exit(main())
