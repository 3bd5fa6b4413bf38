"""python -m serving.bench.contenders: servers as others would write them.

Shapes: N pictures, V views, M = N·V, C channels, H rows, W columns, K classes.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image, ImageOps
from pydantic import BaseModel
from torch import Tensor, nn

from alexnet.checkpoint import About, Checkpoint, current, load, read_about
from alexnet.command import Parser, run
from alexnet.pixels import whole_picture
from alexnet.views import five_places
from serving.bench.load import HOST

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


class TowerNorm(nn.LocalResponseNorm):
    """torch's own; a window ends where its tower's maps end (§3.3)."""

    def __init__(self, towers: int) -> None:
        super().__init__(5, alpha=1e-4, beta=0.75, k=2.0)
        self.towers = towers

    def forward(self, x_NCHW: Tensor) -> Tensor:
        maps, *sides = x_NCHW.shape[1:]
        x_MCHW = x_NCHW.reshape(-1, maps // self.towers, *sides)
        return super().forward(x_MCHW).reshape(x_NCHW.shape)


class Typical:
    """A published model from what torch.nn and Pillow have, in float32, picture by picture."""

    def __init__(self, model: Path) -> None:
        checkpoint = load(model)
        self.about = checkpoint.about
        self.network = typical_network(checkpoint)
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
        logits_MK = self.network(image_NV3HW.flatten(0, 1))
        return logits_MK.softmax(1).unflatten(0, image_NV3HW.shape[:2]).mean(1)


def typical_network(checkpoint: Checkpoint) -> nn.Sequential:
    """The same parameters; those of fc7 and fc8 halved, for a dropout that does nothing here."""
    model, network = checkpoint.model, checkpoint.about.network
    missing = -(network.crop - 11) % 4

    def relu() -> nn.Module:
        return nn.ReLU(inplace=True)

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, stride=2, ceil_mode=True)

    return nn.Sequential(
        nn.ZeroPad2d((0, missing, 0, missing)),
        _plain(model.conv1), relu(), TowerNorm(network.towers), pool(),
        _plain(model.conv2), relu(), TowerNorm(network.towers), pool(),
        _plain(model.conv3), relu(),
        _plain(model.conv4), relu(),
        _plain(model.conv5), relu(), pool(),
        nn.Flatten(),
        model.fc6, relu(), nn.Dropout(),
        _halved(model.fc7), relu(), nn.Dropout(),
        _halved(model.fc8),
    ).eval()  # fmt: skip


def _plain(layer: nn.Conv2d) -> nn.Conv2d:
    plain = nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride,  # type: ignore[arg-type]
        layer.padding, groups=layer.groups,  # type: ignore[arg-type]
    )  # fmt: skip
    plain.load_state_dict(layer.state_dict())
    return plain


def _halved(layer: nn.Linear) -> nn.Linear:
    layer.weight.mul_(0.5)
    return layer


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
    """FastAPI's own way with a file; every picture gets the same probabilities at once."""
    about = read_about(current(model))
    probability_K = made_up(about)
    app = FastAPI()

    @app.post("/classify")
    async def classify(file: UploadFile) -> Guesses:
        await file.read()
        return Guesses.of(probability_K, about)

    return app


def decoded_upload(model: Path) -> FastAPI:
    """The same, with the picture made ready by our code in one of FastAPI's threads."""
    about = read_about(current(model))
    probability_K = made_up(about)
    app = FastAPI()

    @app.post("/classify")
    def classify(file: UploadFile) -> Guesses:
        whole_picture(file.file.read(), about.size, rule=about.rule)
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


def main(arguments: list[str] | None = None) -> int:
    return run(_parser(), arguments)


def _serve(options: argparse.Namespace) -> int:
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    app = APPS[options.contender](options.model)
    uvicorn.run(app, host=HOST, port=options.port, access_log=False)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m serving.bench.contenders", description=__doc__)
    parser.set_defaults(run=_serve)
    parser.add_argument("contender", choices=APPS)
    parser.add_argument("--model", type=Path, required=True, help="models/NAME")
    parser.add_argument("--port", type=int, required=True)
    return parser


if __name__ == "__main__":
    sys.exit(main())
