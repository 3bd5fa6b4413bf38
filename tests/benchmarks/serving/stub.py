"""python -m tests.benchmarks.serving.stub: our server, with one answer for every image.

What is measured is all that stands in front of the model. Imports are late, as in the server's own
command: decoder processes import the file that was run.
"""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Option

if TYPE_CHECKING:
    import numpy as np
    from fastapi import FastAPI

    from serving.settings import Settings


def stub(settings: "Settings", decoding: bool) -> "FastAPI":
    """Our server with one answer; without `decoding` every file is one and the same image, too."""
    from alexnet.predictor import Predictor
    from alexnet.store.models import load
    from serving.app import create_app
    from serving.models import Models, Served
    from tests.benchmarks.serving.contenders import made_up

    class Unmoved(Models):
        async def look(self) -> None:
            """It has its model."""

    predictor = Predictor([load(settings.model[0])])
    probability_K = made_up(predictor.about)
    predictor.classify = (  # type: ignore[method-assign]
        lambda image_N3SS, views: probability_K.expand(len(image_N3SS), views, -1)
    )
    app = create_app(settings, Unmoved(settings.model, Served(predictor)))
    if not decoding:
        app.state.service.decoder = _Blank()
    return app


class _Blank:
    async def start(self) -> None:
        """It has no processes."""

    async def __call__(self, data: bytes, size: int, rule: object) -> "np.ndarray":
        import numpy as np

        return np.zeros((size, size, 3), np.uint8)


def main(
    model: Annotated[Path, Option(help="models/NAME, for its classes")],
    port: Annotated[int, Option()],
    decoding: Annotated[bool, Option(help="make each image ready")] = False,
) -> None:
    from serving import app
    from serving.server import serve
    from serving.settings import Settings

    settings = Settings(model=(model,), port=port)
    app.from_environment = partial(stub, settings, decoding)
    sys.exit(serve(settings))


if __name__ == "__main__":
    typer.run(main)
