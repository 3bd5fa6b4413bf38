"""The server says what the network says of each image by itself.

tests/test_end_to_end.py holds it against the evaluator's own counts.
"""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.checkpoint import Checkpoint
from alexnet.pixels import whole_image
from alexnet.views import probabilities
from tests.conftest import ROOT
from tests.serving.conftest import SIZE, Server


def answers(server: Server, photos: list[bytes], **params: object) -> np.ndarray:
    """Probabilities of all classes, by label; in one request."""
    files = [("file", ("photo", photo)) for photo in photos]
    response = server.client.post("/classify", files=files, params={"top_k": 100} | params)
    results = response.raise_for_status().json()["results"]
    assert [result["index"] for result in results] == list(range(len(photos)))
    return np.array(
        [
            [p for _, p in sorted((g["id"], g["probability"]) for g in result["guesses"])]
            for result in results
        ]
    )


def offline(checkpoint: Checkpoint, photos: list[bytes], views: int = 10) -> np.ndarray:
    about = checkpoint.about
    images = [whole_image(photo, about.size, rule=about.rule) for photo in photos]
    image_N3SS = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return probabilities(checkpoint.model, image_N3SS, checkpoint.mean_3HW, views).numpy()


def photograph(seed: int) -> bytes:
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((160, 120)).save(file, "JPEG", quality=90)
    return file.getvalue()


def test_a_batch_of_32_is_32_singles_in_their_order(server: Server, checkpoint: Checkpoint) -> None:
    photos = [photograph(seed) for seed in range(32)]
    together = answers(server, photos)
    singles = np.concatenate([answers(server, [photo]) for photo in photos])
    assert np.abs(together - singles).max() < 1e-5
    assert np.abs(together - offline(checkpoint, photos)).max() < 1e-5
    assert len(np.unique(together.round(6), axis=0)) == 32  # no two alike: an order shows


def test_one_view(server: Server, checkpoint: Checkpoint) -> None:
    photos = [photograph(seed) for seed in range(3)]
    expected = offline(checkpoint, photos, views=1)
    assert np.abs(answers(server, photos, views=1) - expected).max() < 1e-5


def test_votes_are_the_views(server: Server, checkpoint: Checkpoint) -> None:
    """Each vote is what the network says of the part of the image that it names."""
    photo = photograph(1)
    params = {"detail": "views", "top_k": 7}
    (result,) = server.post("/classify", photo, params=params).json()["results"]
    whole = whole_image(photo, SIZE)
    assert len(result["votes"]) == 10
    for vote in result["votes"]:
        left, top, side = (round(SIZE * vote[name]) for name in ("left", "top", "side"))
        part = whole[top : top + side, left : left + side]
        view = torch.from_numpy((part[:, ::-1] if vote["mirrored"] else part).copy())
        with torch.no_grad():
            image = view.permute(2, 0, 1)[None] - checkpoint.mean_3HW
            expected = checkpoint.model(image).softmax(1)[0]
        found = {guess["id"]: guess["probability"] for guess in vote["guesses"]}
        for label, probability in enumerate(expected.tolist()):
            assert found[f"n{label}"] == pytest.approx(probability, abs=1e-5)
    mirrored = [vote["mirrored"] for vote in result["votes"]]
    assert mirrored == [False] * 5 + [True] * 5


def test_a_server_process_computes_without_tf32() -> None:
    """With it a GPU's probabilities are further from a CPU's than answers may be."""
    told = (
        "import torch; from serving.app import from_environment; "
        "from_environment(); print(torch.backends.cudnn.allow_tf32)"
    )
    environment = os.environ | {"SERVING_MODEL": "none-yet"}
    done = subprocess.run(
        [sys.executable, "-c", told], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.stdout.split()[-1] == "False", done.stderr
