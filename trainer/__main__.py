"""python -m trainer: a packed dataset to a published model."""

import argparse
import re
import sys
from pathlib import Path
from typing import get_args

from alexnet import atomic
from alexnet.command import Parser, run
from pipeline.dataset import Dataset
from pipeline.manifest import Mean
from pipeline.photographs import index_photographs
from pipeline.pictures import Damage
from pipeline.shard import RECORDS
from pipeline.sources.folder import folder_source
from pipeline.sources.source import VAL_FRACTION
from trainer.config import NAME, RECIPES, Recipe, Run, RunError, open_run
from trainer.launch import Resources, launch
from trainer.publish import publish
from trainer.report import draw_curves


def main(arguments: list[str] | None = None) -> int:
    return run(_parser(), arguments)


def _train(options: argparse.Namespace) -> int:
    dataset = _dataset(options)
    recipe = _recipe(options, dataset)

    def plan(resources: Resources) -> Run:
        gpu = options.device == "gpu" or (options.device == "auto" and resources.gpus > 0)
        workers = options.workers or max(1, resources.gpus if gpu else 1)
        _check_resources(workers, gpu, recipe, resources)
        run = Run(
            name=options.name,
            recipe=recipe,
            data=dataset.directory.absolute(),
            dataset=dataset.digest,
            runs=options.runs.absolute(),
            workers=workers,
            gpu=gpu,
            damage=options.damage,
            hw_load=options.hw_decoder_load,
        )
        return open_run(run, options.resume)

    done, outcome = launch(plan)
    if not outcome.finished:
        print(f"stopped; to go on: the same command with --resume (run {done.name})")
        return 0
    directory = publish(done, outcome.checkpoint, outcome.accuracy, options.models)
    print(f"published {directory}; to serve it: python -m serving --model {directory.parent}")
    return 0


def _report(options: argparse.Namespace) -> int:
    for path in draw_curves(options.runs / options.name / "metrics.jsonl", options.picture):
        print(path)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    if options.json and not options.json.absolute().parent.is_dir():
        raise RunError(f"--json {options.json}: there is no such folder; make it first")
    from trainer.evaluation import evaluate_models  # DALI, which the other commands need not load
    from trainer.table2 import table2

    results = evaluate_models(
        options.models,
        options.data,
        options.originals,
        views=sorted(set(options.views)),
        search=options.search_weights,
        workers=options.workers,
        device=options.device,
    )
    print(table2(results))
    if options.json:
        atomic.write(options.json, results.model_dump_json(indent=2).encode())
    return 0


def _dataset(options: argparse.Namespace) -> Dataset:
    """A packed dataset, or the photographs of a folder of class folders as one."""
    data: Path = options.data
    marks = ("manifest.json", RECORDS)
    if any((data / mark).exists() for mark in marks) or not any(data.glob("*/")):
        return Dataset(data)
    directory = options.runs / options.name / "photographs"
    size = RECIPES[options.recipe]().size
    return index_photographs(folder_source(data, VAL_FRACTION, {}), directory, size)


def _recipe(options: argparse.Namespace, dataset: Dataset) -> Recipe:
    """The named recipe for the classes of the dataset, with the options given."""
    recipe = RECIPES[options.recipe]()
    changes = {name: getattr(options, name) for name in ("epochs", "batch", "seed", "mean")}
    fields = recipe.model_dump() | {name: v for name, v in changes.items() if v is not None}
    # The author's runs at twice the batch matched at twice the rate (layer-params-170-256-double).
    scale = fields["batch"] / recipe.batch
    fields["rates"] = [(start, scale * rate) for start, rate in recipe.rates]
    fields["network"]["classes"] = len(dataset.manifest.classes)
    recipe = Recipe.model_validate(fields)
    if dataset.manifest.size != recipe.size:
        raise RunError(
            f"{dataset.directory} holds pictures of {dataset.manifest.size} x "
            f"{dataset.manifest.size}, recipe {recipe.name} takes {recipe.size}; "
            f"pack them with --size {recipe.size}"
        )
    return recipe


def _check_resources(workers: int, gpu: bool, recipe: Recipe, resources: Resources) -> None:
    """Ray would wait for what the cluster does not have."""
    if gpu and workers > resources.gpus:
        raise RunError(
            f"{workers} GPU(s) asked for, this cluster has {resources.gpus}; "
            "lower --workers, or use --device cpu"
        )
    if workers > resources.cpus:
        raise RunError(
            f"--workers is {workers}, this cluster has {resources.cpus} CPUs; each worker takes one"
        )
    if workers > recipe.batch:
        raise RunError(f"--workers is {workers}, more than the {recipe.batch} samples of a batch")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a network and publish it")
    train.set_defaults(run=_train)
    train.add_argument("--recipe", choices=RECIPES, default="small", help="(%(default)s)")
    train.add_argument(
        "--data",
        type=Path,
        required=True,
        help="a packed dataset, or a folder of class folders to be read as it is, which is slower",
    )
    train.add_argument(
        "--name", type=_name, required=True, help="of the run, and of the model it publishes"
    )
    train.add_argument(
        "--resume", action="store_true", help="go on with the run of that name where it stopped"
    )
    train.add_argument(
        "--workers", type=_positive, help="processes that share each batch (one a GPU, else one)"
    )
    train.add_argument(
        "--device", choices=("auto", "cpu", "gpu"), default="auto", help="(%(default)s)"
    )
    train.add_argument("--epochs", type=_positive, help="instead of the recipe's")
    train.add_argument(
        "--batch", type=_positive, help="instead of the recipe's; the rates scale with it"
    )
    train.add_argument("--seed", type=int, help="instead of the recipe's")
    train.add_argument(
        "--mean",
        choices=get_args(Mean),
        help="what is subtracted: the mean picture, as in 2012, or the mean colour",
    )
    train.add_argument(
        "--damage",
        choices=get_args(Damage),
        default="error",
        help="a picture that cannot be decoded ends the run, or another takes its place "
        "(%(default)s)",
    )
    train.add_argument(
        "--hw-decoder-load",
        type=float,
        help="share of a GPU's decoding for its JPEG engines, 0..1 (tried out at the start)",
    )
    train.add_argument("--runs", type=Path, default=Path("runs"), help="(%(default)s)")
    train.add_argument("--models", type=Path, default=Path("models"), help="(%(default)s)")

    curve = commands.add_parser("report", help="draw a run's curves as PNG and SVG")
    curve.set_defaults(run=_report)
    curve.add_argument("name", help="of the run")
    curve.add_argument("picture", type=Path, help="where to, without the ending")
    curve.add_argument("--runs", type=Path, default=Path("runs"), help="(%(default)s)")

    test = commands.add_parser("evaluate", help="errors of published models, alone and together")
    test.set_defaults(run=_evaluate)
    test.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="models/NAME[/STEP]")
    test.add_argument("--data", type=Path, help="a packed dataset, for its validation pictures")
    test.add_argument(
        "--originals",
        type=Path,
        help="a folder of class folders, or with val/ of them, decoded as the server does; with "
        "--data only the photographs that its validation pictures were made of",
    )
    test.add_argument("--views", type=int, nargs="+", choices=(1, 10), default=(1, 10))
    test.add_argument(
        "--search-weights",
        action="store_true",
        help="the 2012 search for a better mean of several models, on the pictures that are scored",
    )
    test.add_argument("--json", type=Path, help="the file to write everything to")
    test.add_argument("--workers", type=_positive, help="tasks at once (one a GPU, else one a CPU)")
    test.add_argument("--device", choices=("auto", "cpu", "gpu"), default="auto")
    return parser


def _name(text: str) -> str:
    if not re.match(NAME, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not made of letters, digits, . _ and -")
    return text


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
