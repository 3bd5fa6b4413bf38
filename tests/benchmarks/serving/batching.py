"""python -m tests.benchmarks.serving.batching: LitServe with torch's own network, or with ours.

Shapes: N images, V views, H rows, W columns, S rows and columns of a whole image, K classes.
"""

import os
from pathlib import Path
from typing import Annotated

import litserve
import torch
import typer
from fastapi import Request
from torch import Tensor
from typer import Option

from alexnet.checkpoint import load
from alexnet.pixels import whole_image
from alexnet.predictor import Predictor
from tests.benchmarks.serving.contenders import Guesses, Typical
from tests.benchmarks.serving.load import HOST

MAX_BATCH_IMAGES, BATCH_TIMEOUT_S = 8, 0.05
"""Images of a batch at most, and the time to wait for them: with a timeout of zero LitServe makes
a loop that never rests."""


class TypicalApi(litserve.LitAPI):
    def __init__(self, model: Path) -> None:
        super().__init__(MAX_BATCH_IMAGES, BATCH_TIMEOUT_S, api_path="/classify")
        self.directory = model

    def setup(self, device: str) -> None:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.typical = Typical(self.directory)

    def decode_request(self, request: Request) -> Tensor:
        """-> (10, 3, crop, crop) float32."""
        return self.typical.views(request["file"].file.read())

    def predict(self, x_NV3HW: Tensor) -> Tensor:
        """(N, V, 3, crop, crop) -> (N, K)."""
        return self.typical.probabilities(x_NV3HW)

    def encode_response(self, output: Tensor) -> Guesses:
        return Guesses.of(output, self.typical.about)


class OurApi(TypicalApi):
    """LitServe around our images and our predictor."""

    def setup(self, device: str) -> None:
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        self.predictor = Predictor([load(self.directory)])

    def decode_request(self, request: Request) -> Tensor:
        """-> (3, S, S) uint8."""
        about = self.predictor.about
        image_SS3 = whole_image(request["file"].file.read(), about.size, rule=about.rule)
        return torch.from_numpy(image_SS3).permute(2, 0, 1)

    def predict(self, x_N3SS: Tensor) -> Tensor:
        """(N, 3, S, S) -> (N, K)."""
        return self.predictor.classify(x_N3SS, views=10).mean(dim=1)

    def encode_response(self, output: Tensor) -> Guesses:
        return Guesses.of(output, self.predictor.about)


APIS = {"typical": TypicalApi, "ours": OurApi}


def serve(network: str, model: Annotated[Path, Option()], port: Annotated[int, Option()]) -> None:
    server = litserve.LitServer(APIS[network](model), accelerator="cpu")
    server.run(host=HOST, port=port, generate_client_file=False)


if __name__ == "__main__":
    typer.run(serve)
