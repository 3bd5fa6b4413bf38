"""python -m trainer: a packed dataset to a published model."""

import argparse
import os
import re
import sys
from pathlib import Path
from typing import Any, get_args

import yaml

from alexnet import atomic
from alexnet.checkpoint import Accuracy
from alexnet.command import Parser, run
from pipeline.dataset import Dataset
from pipeline.manifest import Mean
from pipeline.photographs import index_photographs
from pipeline.pictures import Damage
from pipeline.shard import RECORDS
from pipeline.sources.folder import folder_source
from pipeline.sources.source import VAL_FRACTION
from trainer.launch import Resources, kept_checkpoint, launch
from trainer.publish import publish
from trainer.recipe import RECIPES, VARIABLE, Recipe, parse, resolve
from trainer.report import draw_curves, history
from trainer.run import NAME, Run, RunError, ask_to_stop, find_run, open_run


def main(arguments: list[str] | None = None) -> int:
    return run(_parser(), arguments)


def _train(options: argparse.Namespace) -> int:
    recipe = resolve(options.recipe, os.environ, _changes(options))
    dataset = _dataset(options, recipe.size)
    recipe = _fitted(recipe, dataset)

    def plan(resources: Resources) -> Run:
        gpu = options.device == "gpu" or (options.device == "auto" and resources.gpus > 0)
        by_itself = max(1, resources.gpus) if gpu else 1
        run = Run(
            name=options.name,
            recipe=recipe,
            data=dataset.directory.absolute(),
            dataset=dataset.digest,
            runs=options.runs.absolute(),
            workers=options.workers or (by_itself, by_itself),
            gpu=gpu,
            parallelism=options.parallelism,
            micro=options.micro_batch,
            save_every_s=options.save_every,
            keep=options.keep,
            retries=options.retries,
            init_from=options.init_from and options.init_from.absolute(),
            damage=options.damage,
            hw_load=options.hw_decoder_load,
        )
        _check_workers(run, resources)
        return open_run(run, options.resume)

    done, outcome = launch(plan)
    if not outcome.finished:
        print(f"stopped; to go on: the same command with --resume (run {done.name})")
        return 0
    accuracy = [Accuracy.model_validate(counts) for counts in outcome.accuracy]
    return _published(publish(done, outcome.checkpoint, accuracy, options.models))


def _stop(options: argparse.Namespace) -> int:
    ask_to_stop(find_run(options.runs, options.name))
    print(f"asked {options.name} to save a checkpoint and end")
    return 0


def _publish(options: argparse.Namespace) -> int:
    run = find_run(options.runs, options.name)
    checkpoint = kept_checkpoint(run, options.best)
    step = int(checkpoint.name.removeprefix("step_"))
    measured = [
        Accuracy(**{field: event[field] for field in Accuracy.model_fields})
        for event in history(run.metrics)[1]
        if event["step"] == step
    ]
    return _published(publish(run, checkpoint, measured, options.models))


def _published(directory: Path) -> int:
    print(f"published {directory}; to serve it: python -m serving --model {directory.parent}")
    return 0


def _recipe(options: argparse.Namespace) -> int:
    recipe = resolve(options.recipe, os.environ, options.set)
    print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), end="")
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


def _changes(options: argparse.Namespace) -> list[tuple[str, Any]]:
    """What the command line changes in the recipe."""
    short = {name: getattr(options, name) for name in ("epochs", "batch", "seed", "mean")}
    if options.schedule:
        short["schedule"] = {"kind": options.schedule}
    return [change for change in short.items() if change[1] is not None] + options.set


def _dataset(options: argparse.Namespace, size: int) -> Dataset:
    """A packed dataset, or the photographs of a folder of class folders as one."""
    data: Path = options.data
    marks = ("manifest.json", RECORDS)
    if any((data / mark).exists() for mark in marks) or not any(data.glob("*/")):
        return Dataset(data)
    directory = options.runs / options.name / "photographs"
    return index_photographs(folder_source(data, VAL_FRACTION, {}), directory, size)


def _fitted(recipe: Recipe, dataset: Dataset) -> Recipe:
    """The recipe for the classes of the dataset. Raises RunError where its pictures are others."""
    if dataset.manifest.size != recipe.size:
        raise RunError(
            f"{dataset.directory} holds pictures of {dataset.manifest.size} x "
            f"{dataset.manifest.size}, recipe {recipe.name} takes {recipe.size}; "
            f"pack them with --size {recipe.size}"
        )
    if recipe.network.crop > recipe.size:
        raise RunError(
            f"network.crop is {recipe.network.crop}, the pictures have {recipe.size}; "
            "a crop is cut from a picture"
        )
    classes = {"classes": len(dataset.manifest.classes)}
    return recipe.model_copy(update={"network": recipe.network.model_copy(update=classes)})


def _check_workers(run: Run, resources: Resources) -> None:
    """Ray would wait for what the cluster does not have."""
    fewest, most = run.workers
    if run.gpu and fewest > resources.gpus:
        raise RunError(
            f"{fewest} GPU(s) asked for, this cluster has {resources.gpus}; "
            "lower --workers, or use --device cpu"
        )
    if fewest > resources.cpus:
        raise RunError(
            f"--workers is {fewest}, this cluster has {resources.cpus} CPUs; each worker takes one"
        )
    if most > run.recipe.batch:
        raise RunError(f"--workers is {most}, more than the {run.recipe.batch} samples of a batch")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    runs = Parser(add_help=False)
    runs.add_argument("--runs", type=Path, default=Path("runs"), help="(%(default)s)")
    models = Parser(add_help=False)
    models.add_argument("--models", type=Path, default=Path("models"), help="(%(default)s)")
    recipe = Parser(add_help=False)
    recipe.add_argument(
        "--recipe",
        default="small",
        metavar="NAME",
        help=f"{', '.join(RECIPES)}, or a YAML file (%(default)s)",
    )
    recipe.add_argument(
        "--set",
        type=_setting,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a field of the recipe, as network.width=0.25; so does the environment, as "
        f"{VARIABLE}NETWORK__WIDTH",
    )

    train = commands.add_parser(
        "train", parents=[recipe, runs, models], help="train a network and publish it"
    )
    train.set_defaults(run=_train)
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
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that share each batch, or 1:4 for as many as there are (one a GPU, else 1)",
    )
    train.add_argument(
        "--parallelism",
        choices=("data", "towers"),
        default="data",
        help="towers: pairs of workers, a tower of the network each, as in 2012 (%(default)s)",
    )
    train.add_argument(
        "--device", choices=("auto", "cpu", "gpu"), default="auto", help="(%(default)s)"
    )
    train.add_argument("--epochs", type=_positive, help="instead of the recipe's")
    train.add_argument(
        "--batch", type=_positive, help="instead of the recipe's; the rate goes with it"
    )
    train.add_argument("--seed", type=int, help="instead of the recipe's")
    train.add_argument(
        "--schedule",
        choices=("fixed", "plateau", "cosine"),
        help="of the rate: by the clock, by the validation error as in 2012, or half a cosine",
    )
    train.add_argument(
        "--mean",
        choices=get_args(Mean),
        help="what is subtracted: the mean picture, as in 2012, or the mean colour",
    )
    train.add_argument(
        "--init-from",
        type=Path,
        metavar="MODEL",
        help="a published model to start from, with a new classifier",
    )
    train.add_argument(
        "--micro-batch",
        type=_positive,
        metavar="N",
        help="most samples a worker passes at once; the batch and the update stay the same",
    )
    train.add_argument(
        "--save-every",
        type=float,
        default=Run.model_fields["save_every_s"].default,
        metavar="S",
        help="seconds between checkpoints within an epoch (%(default)s)",
    )
    train.add_argument(
        "--keep",
        type=_positive,
        default=Run.model_fields["keep"].default,
        metavar="N",
        help="checkpoints kept for their accuracy, besides the last (%(default)s)",
    )
    train.add_argument(
        "--retries",
        type=int,
        default=Run.model_fields["retries"].default,
        metavar="N",
        help="how often in a row to go on after the death of a worker (%(default)s)",
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

    stop = commands.add_parser("stop", parents=[runs], help="have a run save and end")
    stop.set_defaults(run=_stop)
    stop.add_argument("name", help="of the run")

    release = commands.add_parser(
        "publish", parents=[runs, models], help="publish a checkpoint of a run"
    )
    release.set_defaults(run=_publish)
    release.add_argument("name", help="of the run")
    release.add_argument(
        "--best", action="store_true", help="that of the best validation accuracy, not the last"
    )

    show = commands.add_parser("recipe", parents=[recipe], help="print a recipe as YAML")
    show.set_defaults(run=_recipe)

    curve = commands.add_parser("report", parents=[runs], help="draw a run's curves, PNG and SVG")
    curve.set_defaults(run=_report)
    curve.add_argument("name", help="of the run")
    curve.add_argument("picture", type=Path, help="where to, without the ending")

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


def _workers(text: str) -> tuple[int, int]:
    """4 -> (4, 4); 1:4 -> (1, 4)."""
    fewest, colon, most = text.partition(":")
    pair = _positive(fewest), _positive(most if colon else fewest)
    if pair[0] > pair[1]:
        raise argparse.ArgumentTypeError(f"{text}: the first number is the smaller one")
    return pair


def _setting(text: str) -> tuple[str, Any]:
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise argparse.ArgumentTypeError(f"{text!r} is not FIELD=VALUE")
    return field, parse(value, f"--set {field}")


if __name__ == "__main__":
    sys.exit(main())
