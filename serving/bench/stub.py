"""python -m serving.bench.stub: our server whole, but for a model that says the same of every picture.

So what is measured is all that stands in front of the model.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
from fastapi import FastAPI

from alexnet.checkpoint import load
from alexnet.command import Parser, run
from serving import app
from serving.bench.contenders import made_up
from serving.models import Models, Served
from serving.predictor import Predictor
from serving.server import serve
from serving.settings import Settings


class Unmoved(Models):
    """What it was given, whatever is published."""

    async def look(self) -> None:
        pass


def stub(settings: Settings, decoding: bool) -> FastAPI:
    """Without `decoding` every file counts as one and the same picture, too."""
    predictor = Predictor([load(settings.model[0])])
    probability_K = made_up(predictor.about)
    predictor.classify = lambda picture_N3SS, views: probability_K.expand(  # type: ignore[method-assign]
        len(picture_N3SS), views, -1
    )
    made = app.create_app(settings, Unmoved(settings.model, Served(predictor)))
    if not decoding:
        made.state.service._decoder = _decoder
    return made


async def _decoder(data: bytes, size: int, rule: object) -> np.ndarray:
    return np.zeros((size, size, 3), np.uint8)


def main(arguments: list[str] | None = None) -> int:
    return run(_parser(), arguments)


def _serve(options: argparse.Namespace) -> int:
    settings = Settings(model=(options.model,), port=options.port)
    app.from_environment = partial(stub, settings, options.decoding)  # type: ignore[assignment]
    return serve(settings)


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m serving.bench.stub", description=__doc__)
    parser.set_defaults(run=_serve)
    parser.add_argument("--decoding", action="store_true", help="make each picture ready")
    parser.add_argument("--model", type=Path, required=True, help="models/NAME, for its classes")
    parser.add_argument("--port", type=int, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
