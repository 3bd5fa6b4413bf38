"""The command line of `python -m trainer`."""

import argparse
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from alexnet.command import Parser
from pipeline.manifest import Mean
from pipeline.pictures import Damage
from pipeline.sources import WORDS
from trainer.imports import Family
from trainer.jobs import ADDRESS
from trainer.jobs import VARIABLE as ADDRESS_VARIABLE
from trainer.recipe import RECIPES, VARIABLE, parse
from trainer.run import NAME, Resume, Run

Command = Callable[[argparse.Namespace], int]


def parser(commands: Mapping[str, Command]) -> Parser:
    """`commands`: name of a subcommand -> what it calls with the parsed options."""
    whole = Parser(prog="python -m trainer", description="A packed dataset to a published model.")
    subparsers = whole.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, **options: Any) -> Parser:
        command = subparsers.add_parser(name, **options)
        command.set_defaults(run=commands[name])
        return command

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

    train = add("train", parents=[recipe, runs, models], help="train a network and publish it")
    train.add_argument(
        "--data",
        type=Path,
        required=True,
        help="a packed dataset, or a folder of class folders to be read as it is, which is slower; "
        f"or {' or '.join(WORDS)}, which are packed first where they have not been",
    )
    train.add_argument(
        "--datasets",
        type=Path,
        default=Path("datasets"),
        help="where those are packed to (%(default)s)",
    )
    train.add_argument(
        "--name", type=_name, required=True, help="of the run, and of the model it publishes"
    )
    train.add_argument(
        "--resume",
        nargs="?",
        choices=get_args(Resume),
        const="yes",
        default="no",
        help="go on with the run of that name where it stopped; if-any: or else start it",
    )
    train.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that share each batch, or 1:4 for as many as there are (one a GPU, else "
        "one a machine)",
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

    stop = add(
        "stop",
        parents=[runs],
        help=f"have a run save and end; where {ADDRESS_VARIABLE} is set, one sent to that cluster",
    )
    stop.add_argument("name", help="of the run")

    send = add(
        "submit",
        help="send a run to a Ray cluster, and follow it",
        epilog=f"The cluster's head is at {ADDRESS}, or where {ADDRESS_VARIABLE} says; its token "
        "is in RAY_AUTH_TOKEN, or in the file that RAY_AUTH_TOKEN_PATH names. Sent again, a run "
        "goes on where it stopped.",
    )
    send.add_argument("--detach", action="store_true", help="do not wait for it")
    send.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="train ...", help="as it would be run here"
    )

    add("status", help="the runs sent to a cluster, and how they are")

    log = add("logs", help="what a run sent to a cluster has printed, and prints until its end")
    log.add_argument("name", help="of the run")

    release = add("publish", parents=[runs, models], help="publish a checkpoint of a run")
    release.add_argument("name", help="of the run")
    release.add_argument(
        "--best", action="store_true", help="that of the best validation accuracy, not the last"
    )

    add("recipe", parents=[recipe], help="print a recipe as YAML")

    curve = add("report", parents=[runs], help="draw a run's curves, PNG and SVG")
    curve.add_argument("name", help="of the run")
    curve.add_argument("picture", type=Path, help="where to, without the ending")

    bring = add("import", parents=[models], help="publish torchvision's or Caffe's AlexNet")
    bring.add_argument("file", type=Path, help="state dict (.pth, .safetensors), or blobs (.npz)")
    bring.add_argument("--from", choices=get_args(Family), required=True, dest="family")
    bring.add_argument("--name", type=_name, required=True, help="of the model it publishes")
    bring.add_argument("--classes", type=Path, help="names, one a line, as synset_words.txt")
    bring.add_argument("--mean", type=Path, help="Caffe's mean picture, .npy or .npz (its colour)")

    give = add("export", help="write a published model as ONNX or for torch.export")
    give.add_argument("model", type=Path, help="models/NAME, or models/NAME/STEP")
    give.add_argument("out", type=Path, help="a file that ends in .onnx or .pt2")

    test = add("evaluate", help="errors of published models, alone and together")
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
    return whole


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
