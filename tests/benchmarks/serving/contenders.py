"""python -m tests.benchmarks.serving.contenders: servers as others would write them.

Shapes: N images, V views, M = N·V, C channels, H rows, W columns, K classes.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image, ImageOps
from pydantic import BaseModel
from torch import Tensor
from typer import Option

from alexnet.checkpoint import About, current, load, read_about
from alexnet.pixels import whole_image
from alexnet.predictor import default_device
from alexnet.views import five_places
from tests.benchmarks.network import plain
from tests.benchmarks.serving.load import HOST

BEST = 5


class Guess(BaseModel):
    id: str
    label: str
    probability: float


class Guesses(BaseModel):
    guesses: list[Guess]

    @classmethod
    def of(cls, probability_K: Tensor, about: About) -> "Guesses":
        best = probability_K.topk(BEST)
        return cls(
            guesses=[
                Guess(id=about.classes[i].id, label=about.classes[i].name, probability=probability)
                for i, probability in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
        )


class Typical:
    """A published model from what torch.nn and Pillow have, in float32; on the GPU where there is
    one, as our server's."""

    def __init__(self, model: Path) -> None:
        checkpoint = load(model)
        self.about = checkpoint.about
        self.device = default_device()
        self.network = plain(checkpoint.model).to(self.device)
        self.mean_3HW = checkpoint.mean_3HW

    def views(self, jpeg: bytes) -> Tensor:
        """(10, 3, crop, crop) float32, the mean subtracted."""
        crop = self.about.network.crop
        image = self.decoded(jpeg)
        crops = [
            image.crop((left, top, left + crop, top + crop))
            for top, left in five_places(self.about.size, crop)
        ]
        pixels_V3HW = [
            torch.from_numpy(np.array(view)).permute(2, 0, 1).float()
            for view in crops + [ImageOps.mirror(view) for view in crops]
        ]
        return torch.stack(pixels_V3HW) - self.mean_3HW

    def decoded(self, jpeg: bytes) -> Image.Image:
        """size x size: the short side scaled, the centre cut out."""
        size = self.about.size
        image = Image.open(io.BytesIO(jpeg)).convert("RGB")
        short = min(image.size)
        width, height = (side * size // short for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        return image.crop((left, top, left + size, top + size))

    @torch.no_grad()
    def probabilities(self, image_NV3HW: Tensor) -> Tensor:
        """(N, V, 3, crop, crop) -> (N, K), the mean over the views."""
        logits_MK = self.network(image_NV3HW.flatten(0, 1).to(self.device))
        return logits_MK.softmax(1).unflatten(0, image_NV3HW.shape[:2]).mean(1).cpu()


def naive(model: Path) -> FastAPI:
    """A model behind an endpoint, as most are: one request after the other."""
    typical = Typical(model)
    app = FastAPI()

    @app.post("/classify")
    async def classify(file: UploadFile) -> Guesses:
        views_V3HW = typical.views(await file.read())
        return Guesses.of(typical.probabilities(views_V3HW[None])[0], typical.about)

    return app


def upload(model: Path) -> FastAPI:
    """FastAPI's own way with a file; every image gets the same probabilities at once."""
    about = read_about(current(model))
    probability_K = made_up(about)
    app = FastAPI()

    @app.post("/classify")
    async def classify(file: UploadFile) -> Guesses:
        await file.read()
        return Guesses.of(probability_K, about)

    return app


def decoded_upload(model: Path) -> FastAPI:
    """The same server, with the image made ready by our code in one of FastAPI's threads."""
    about = read_about(current(model))
    probability_K = made_up(about)
    app = FastAPI()

    @app.post("/classify")
    def classify(file: UploadFile) -> Guesses:
        whole_image(file.file.read(), about.size, rule=about.rule)
        return Guesses.of(probability_K, about)

    return app


def made_up(about: About) -> Tensor:
    """Probabilities of all classes, (K,), no two alike."""
    probability_K = torch.arange(1.0, 1 + about.network.classes)
    return probability_K / probability_K.sum()


APPS: dict[str, Callable[[Path], FastAPI]] = {
    "naive": naive,
    "upload": upload,
    "decoded-upload": decoded_upload,
}


def serve(contender: str, model: Annotated[Path, Option()], port: Annotated[int, Option()]) -> None:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    uvicorn.run(APPS[contender](model), host=HOST, port=port, access_log=False)


if __name__ == "__main__":
    typer.run(serve)
