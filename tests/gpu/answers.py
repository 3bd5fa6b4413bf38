"""What a predictor and a server on a GPU answer, beside a CPU's probabilities.

Shapes: N images, S rows and columns of each, V views, K classes.
"""

import json
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from alexnet import golden
from alexnet.checkpoint import Checkpoint, load
from alexnet.config import AlexNetConfig
from alexnet.pixels import whole_image
from alexnet.predictor import Predictor
from tests.benchmarks.serving import trial
from tests.benchmarks.serving.load import Answer, ask, closed_loop, multipart
from tests.benchmarks.serving.process import Server
from tests.gpu.check import Finding, Setup


def predictor(setup: Setup) -> Iterator[Finding]:
    """From one image to a whole batch, with TF32 and without; published weights' golden image."""
    made = _publish(setup, seed=0)
    image_N3SS = _images(made)
    exact_NVK = Predictor([_again(made, setup)], "cpu").classify(image_N3SS, 10)
    for tf32, bound in ((False, 1e-4), (True, golden.TF32_TOLERANCE)):
        torch.backends.cudnn.allow_tf32 = tf32
        began = time.perf_counter()
        ours = Predictor([_again(made, setup)], setup.device)  # checks the golden image
        yield Finding(f"tf32 {tf32}: ready after", time.perf_counter() - began, unit="s")
        for count in (1, 2, 3, 5, 8, 16, 33, 64) if setup.gpu else (1, 3):
            rows = torch.arange(count) % len(image_N3SS)
            found_NVK = ours.classify(image_N3SS[rows], 10)
            worst = (found_NVK - exact_NVK[rows]).abs().max().item()
            yield Finding(f"tf32 {tf32}: {count} images", worst, bound)


def server(setup: Setup) -> Iterator[Finding]:
    """Many clients at once, and another model published meanwhile."""
    made = _publish(setup, seed=0)
    jpegs = trial.photographs()
    requests = [multipart("/classify", jpeg) for jpeg in jpegs]
    words = ("serving", "--model", setup.folder / "models" / trial.NAME, "--reload-s", 0.2)
    connections = (1, 8, 64) if setup.gpu else (1, 4)
    with Server(*words, ready="/readyz") as running:
        yield Finding("ready after", running.cold_start_s, unit="s")
        for count in connections:
            answers = ask(closed_loop(running.port, requests, count, 2.0))
            yield from _right(made, jpegs, answers, f"{count} connections")
        new = _publish(setup, seed=1)
        until = time.monotonic() + 60
        while json.loads(running.get("/info")[1])["model"]["step"] != 1:
            if time.monotonic() > until:
                raise TimeoutError("the server has not taken the model published last")
            time.sleep(0.1)
        answers = ask(closed_loop(running.port, requests, connections[-1], 2.0))
        yield from _right(new, jpegs, answers, "after a reload")


def _right(
    made: Checkpoint, jpegs: list[bytes], answers: list[Answer], case: str
) -> Iterator[Finding]:
    """Every answer is 200, and its probabilities are the CPU's."""
    refused = [text for answer in answers if (text := trial.refusal(answer))]
    yield Finding(f"{case}: refused", len(refused), 0)
    yield Finding(f"{case}: answered", -sum(a.status == 200 for a in answers), -1)
    truth = trial.Truth(made, jpegs)
    worst = max(truth.difference(a) for a in answers if a.status == 200)
    yield Finding(f"{case}: largest difference", worst, golden.TOLERANCE)


def _publish(setup: Setup, seed: int) -> Checkpoint:
    network = AlexNetConfig() if setup.gpu else AlexNetConfig(width=0.1, crop=112)
    return trial.publish(setup.folder / "models", network, seed)


def _again(made: Checkpoint, setup: Setup) -> Checkpoint:
    """Of the same files: a predictor takes the model to its own device."""
    return load(setup.folder / "models" / made.about.name)


def _images(made: Checkpoint) -> Tensor:
    images = [whole_image(jpeg, made.about.size) for jpeg in trial.photographs()]
    return torch.stack([torch.from_numpy(image).permute(2, 0, 1) for image in images])
