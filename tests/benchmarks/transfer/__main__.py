"""python -m tests.benchmarks.transfer: whether a trained network helps where photographs are few.

A network is trained on the first seven classes of a folder, and fine-tuned on few photographs of
the other classes; another is trained on the same photographs from scratch. All by the product's own
commands. A row that is finished is kept, so that the command can be interrupted and run again.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field
from typer import Argument

from alexnet import atomic
from alexnet.checkpoint import current, read_about
from alexnet.command import UserError
from alexnet.console import Options
from tests.benchmarks.harness import product, report, run
from tests.benchmarks.transfer.chart import draw
from tests.benchmarks.transfer.rows import (
    FINETUNED,
    SCRATCH,
    Photographs,
    Row,
    accuracy_table,
    drawn,
    epochs,
    kept,
    labels,
)
from trainer.recipes import small

TAUGHT = 7
"""Classes of the network that is fine-tuned."""


class Transfer(Options):
    """Measure what fine-tuning gains over training from scratch, by photographs a class.

    The validation images of the classes that are learnt are asked about after training only.
    """

    folder: Annotated[Path, Argument()]
    """Photographs in train/ and val/, each with the same class folders, nine or more."""
    out: Path = Path("docs/transfer")
    """Draw the accuracies to this path, .png and .svg."""
    work: Path = Path("bench/transfer")
    """The folder of datasets, runs, models, and of the rows that are finished."""
    photographs: tuple[int, ...] = (10, 20, 50, 200)
    """Training photographs of each class."""
    seeds: int = Field(3, ge=1)
    """Choices of photographs, and networks of each contender, for each number of them."""
    size: int = 72
    """Rows and columns of the packed images."""
    crop: int = 64
    """Rows and columns of a view."""
    width: float = 0.5
    """Share of the paper's units that each layer has."""
    epochs: int = Field(12, ge=1)
    """Of the network that is fine-tuned."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("transfer", Transfer, bench, arguments, "imagenette --out docs/transfer")


def bench(options: Transfer) -> int:
    work = options.work
    work.mkdir(parents=True, exist_ok=True)
    train, val = (_listed(options.folder / split) for split in ("train", "val"))
    if train.keys() != val.keys() or len(train) < TAUGHT + 2:
        raise UserError(f"{options.folder}: train/ and val/ need the same nine classes or more")
    ids = sorted(train)
    taught, learnt = ids[:TAUGHT], ids[TAUGHT:]
    _pack(options, "taught", _of(train, taught), _of(val, taught))
    _pack(options, "learnt", _of(train, learnt), _of(val, learnt))
    words = ("--epochs", options.epochs, *_network(options))
    _train(options, "taught", "taught", "small", 0, *words)
    done = work / "rows.jsonl"
    rows = kept(done)
    for seed in range(options.seeds):
        for count in sorted(options.photographs):
            if any((row.photographs, row.seed) == (count, seed) for row in rows):
                continue
            rows.append(_row(options, _of(train, learnt), _of(val, learnt), count, seed))
            atomic.write(done, "".join(row.model_dump_json() + "\n" for row in rows).encode())
    rows = [r for r in rows if r.photographs in options.photographs and r.seed < options.seeds]
    print(*draw(rows, options.out), sep="\n")
    about = read_about(current(work / "models" / "taught"))
    report(
        "images", {}, (), options, [accuracy_table(rows)],
        taught={
            "classes": taught, "step": about.step,
            "accuracy": [score.model_dump() for score in about.accuracy],
        },
        learnt=learnt, rows=[row.model_dump() for row in rows],
    )  # fmt: skip
    return 0


def _row(options: Transfer, train: Photographs, val: Photographs, count: int, seed: int) -> Row:
    """Two networks trained on `count` photographs of each class, and asked about all of `val`: one
    by the recipe `finetune`, and one by `small` with at least as many steps, each of more images.
    """
    name = f"{count}-{seed}"
    # Every epoch ends with a look at the validation images, which here would take most of the time.
    few = {class_id: files[:1] for class_id, files in val.items()}
    _pack(options, name, drawn(train, count, seed), few)
    start = ("--init-from", options.work / "models" / "taught")
    tuned = _train(options, f"tuned-{name}", name, "finetune", seed, *start)
    long = epochs(count * len(train), small().batch, read_about(tuned).step)
    words = ("--epochs", long, *_network(options))
    models = {
        FINETUNED: tuned,
        SCRATCH: _train(options, f"scratch-{name}", name, "small", seed, *words),
    }
    answers = options.work / "answers.json"
    product(
        "trainer", "evaluate", *models.values(), "--data", options.work / "learnt", "--views", 10,
        "--workers", 1, "--json", answers,
    )  # fmt: skip
    (section,) = json.loads(answers.read_text())["sections"]
    scores = [row["scores"][0] for row in section["rows"]]
    return Row(
        photographs=count,
        seed=seed,
        steps={contender: read_about(model).step for contender, model in models.items()},
        correct={
            contender: score["top1"] for contender, score in zip(models, scores, strict=False)
        },
        images=section["pictures"],
    )


def _network(options: Transfer) -> list[str]:
    changes = {"size": options.size, "network.crop": options.crop, "network.width": options.width}
    return [word for field, value in changes.items() for word in ("--set", f"{field}={value}")]


def _listed(split: Path) -> dict[str, list[str]]:
    try:
        folders = sorted(path for path in split.iterdir() if path.is_dir())
    except OSError as error:
        raise UserError(f"{split}: {error.strerror}; name a folder with train/ and val/") from None
    return {folder.name: sorted(path.name for path in folder.iterdir()) for folder in folders}


def _of(photographs: Photographs, ids: Sequence[str]) -> Photographs:
    return {class_id: photographs[class_id] for class_id in ids}


def _pack(options: Transfer, name: str, train: Photographs, val: Photographs) -> None:
    """Pack these photographs of the folder, unless that has been done."""
    dataset, listing = options.work / name, options.work / f"{name}.csv"
    if not (dataset / "manifest.json").exists():
        listing.write_text(labels(train, val))
        words = ("--labels", listing, "--size", options.size)
        product("pipeline", "pack", options.folder, dataset, *words)


def _train(options: Transfer, name: str, data: str, recipe: str, seed: int, *words: object) -> Path:
    """Train the network of that name, unless it has been published; returns where it is."""
    models = options.work / "models"
    if not (models / name).exists():
        product(
            "trainer", "train", "--recipe", recipe, "--data", options.work / data, "--name", name,
            "--runs", options.work / "runs", "--models", models, "--workers", 1, "--seed", seed,
            "--resume-if-any", *words,
        )  # fmt: skip
    return current(models / name)


if __name__ == "__main__":
    sys.exit(main())
