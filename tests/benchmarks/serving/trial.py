"""A model and photographs made up for a trial, and whether a server's answers about them are right.

Shapes: N photographs, H rows, W columns, K classes.
"""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from alexnet import checkpoint
from alexnet.checkpoint import About, Checkpoint
from alexnet.classes import ClassLabel
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.pixels import whole_image
from alexnet.views import probabilities
from tests.benchmarks.serving.load import Answer

NAME = "made-up"
PHOTOGRAPHS = 16
HEIGHT, WIDTH = 400, 500
"""Scaled to 256 rows these are 320 columns: whole numbers, so that scaling everything and cutting
out the centre, and scaling the centre alone, are the same to the last bit. So with 144 rows."""
MARGIN = 32
"""Rows of the whole image beyond those of a view: 256 for 224 (§4.1)."""
QUALITY = 90
DEVIATIONS = ((4, 60), (16, 40), (64, 30), (400, 18))
"""(rows, deviation) of noise at each scale, as much of it in fine detail as makes 110 KB."""
TOLERANCE = 1e-4
"""Between two ways to the same probability in float32."""


def photographs() -> list[bytes]:
    """JPEGs of 110 KB with large and small structures, no two alike, the same each time."""
    return [_photograph(np.random.default_rng(seed)) for seed in range(PHOTOGRAPHS)]


def _photograph(random: np.random.Generator) -> bytes:
    pixels_HW3 = np.full((HEIGHT, WIDTH, 3), 128.0)
    for rows, deviation in DEVIATIONS:
        noise_HW3 = random.normal(0, deviation, (rows, rows * WIDTH // HEIGHT, 3))
        for colour in range(3):
            layer = Image.fromarray(noise_HW3[..., colour].astype(np.float32))
            pixels_HW3[..., colour] += layer.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image = Image.fromarray(pixels_HW3.clip(0, 255).astype(np.uint8))
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def publish(models: Path, network: AlexNetConfig, seed: int, ids: Sequence[str] = ()) -> Checkpoint:
    """A network that nobody trained, as `models`/made-up and of step `seed`; served from now on.

    Its classes have these `ids`, or some of its own. Its last layer is loud enough for answers that
    differ from photograph to photograph.
    """
    torch.manual_seed(seed)
    model = AlexNet(network).eval().requires_grad_(False)
    model.fc8.weight.normal_(0, 0.3)
    ids = ids or [f"n{k:08}" for k in range(network.classes)]
    about = About(
        name=NAME, step=seed, network=network, size=network.crop + MARGIN, dataset=None, recipe={},
        classes=tuple(ClassLabel(id=each, name=f"class {k}") for k, each in enumerate(ids)),
        trained_at=None, versions={},
    )  # fmt: skip
    mean_3HW = torch.full((3, network.crop, network.crop), 128.0)
    return checkpoint.load(checkpoint.save(model, mean_3HW, about, models))


class Truth:
    """What a checkpoint says of each photograph, by the code that validates."""

    def __init__(self, made: Checkpoint, jpegs: list[bytes]) -> None:
        about = made.about
        self._column = {known.id: column for column, known in enumerate(about.classes)}
        images = [whole_image(jpeg, about.size, rule=about.rule) for jpeg in jpegs]
        one_by_one = (torch.from_numpy(image).permute(2, 0, 1)[None] for image in images)
        self._probability_NK = torch.cat(
            [probabilities(made.model, one, made.mean_3HW, views=10) for one in one_by_one]
        )

    def flaw(self, answer: Answer) -> str | None:
        """What is wrong with it, if anything is."""
        if refused := refusal(answer):
            return refused
        if (difference := self.difference(answer)) > TOLERANCE:
            return f"photograph {answer.request}: a probability is wrong by {difference:.6f}"
        return None

    def difference(self, answer: Answer) -> float:
        """The largest between a probability of an answer and the true one."""
        probability_K = self._probability_NK[answer.request]
        return max(
            abs(guess["probability"] - float(probability_K[self._column[guess["id"]]]))
            for guess in _guesses(json.loads(answer.body))
        )


def refusal(answer: Answer) -> str | None:
    """What the server says instead of an answer, if it does."""
    if answer.status == 200:
        return None
    return f"status {answer.status}: {answer.body.decode(errors='replace')[:300]}"


def _guesses(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Our answers hold one result for each file, those of others are one."""
    return (body["results"][0] if "results" in body else body)["guesses"]
