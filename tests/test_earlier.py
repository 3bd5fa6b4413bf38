"""What the program wrote on 2026-11-26 still loads: its model answers, also about similar images,
and its stopped run goes on.

tests/earlier/ holds a packed dataset, a run of six epochs that was stopped after three of 48 steps,
and the model that it published once it was resumed then, with an index of its training images.
Dropout has had other masks since.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import alexnet
from alexnet.checkpoint import current, load
from alexnet.pixels import whole_image
from alexnet.predictor import Predictor
from pipeline.dataset import Dataset
from serving.neighbours import Neighbours
from tests.trainer.test_failure import last, same_bits
from trainer.loop.state import read
from trainer.on_ray import snapshot

EARLIER = Path(__file__).parent / "earlier"
PUBLISHED = EARLIER / "published" / "tiny"
PROBABILITY_NK = [
    [0.31762731, 0.45096833, 0.23140435],
    [0.21979241, 0.60385376, 0.17635378],
    [0.32582241, 0.45553952, 0.21863811],
    [0.34135118, 0.42835838, 0.23029050],
    [0.27439553, 0.49967799, 0.22592649],
    [0.27897185, 0.46493411, 0.25609404],
]
"""What it answered about the validation images."""
MOVED = {
    "conv1.weight": 0.208251, "conv2.weight": 0.205901, "conv3.weight": 0.104284,
    "conv4.weight": 0.0783229, "conv5.weight": 0.085854, "fc6.weight": 0.0603686,
    "fc7.weight": 0.390857, "fc8.weight": 0.44059,
}  # fmt: skip
"""How far the stopped run's weights move from its third step to its last, as Euclidean norms."""


def test_a_published_model_answers_as_it_did() -> None:
    val = Dataset(EARLIER / "dataset").val
    images = [val.jpeg(sample).tobytes() for sample in range(len(val))]
    found_NK = alexnet.load(PUBLISHED).probabilities(images)
    # Another processor may round otherwise.
    torch.testing.assert_close(found_NK, torch.tensor(PROBABILITY_NK), rtol=0, atol=1e-5)


def test_an_index_finds_each_image_itself() -> None:
    model, train = Predictor([load(PUBLISHED)]), Dataset(EARLIER / "dataset").train
    neighbours = Neighbours.open(current(PUBLISHED), model.about)
    assert neighbours is not None
    images = [whole_image(train.jpeg(sample).tobytes(), 72) for sample in range(len(train))]
    image_N3SS = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    distance_N2, number_N2 = neighbours.nearest(model.features(image_N3SS).numpy(), 2)
    assert number_N2[:, 0].tolist() == list(range(len(train)))
    assert (distance_N2[:, 0] < 1e-3 * distance_N2[:, 1]).all()


@pytest.mark.slow
def test_a_stopped_run_ends_as_it_did(run: Callable, tmp_path: Path) -> None:
    """With the same bits where a kill has cut what Ray wrote of its checkpoints."""
    for name in ("whole", "cut"):
        folder = tmp_path / name
        shutil.copytree(EARLIER / "stopped", folder / "runs")
        file = folder / "runs" / "tiny" / snapshot.FILE
        file.write_bytes(file.read_bytes()[: 200 if name == "cut" else None])
        done = run(
            "trainer", "train", "--resume", "--data", EARLIER / "dataset", "--name", "tiny",
            "--runs", folder / "runs", "--models", folder / "models", "--keep", 1,
            "--workers", 1, "--epochs", 6, "--batch", 4, "--set", "size=72",
            "--set", "network.crop=64", "--set", "network.width=0.06", "--set", "precision=fp32",
            "--set", "rate=0.002",
        )  # fmt: skip
        assert done.returncode == 0, (name, done.stderr)
        assert ("was made again" in done.stdout) == (name == "cut"), done.stdout
    assert last(tmp_path / "whole", "tiny").progress.step == 48
    assert same_bits(last(tmp_path / "cut", "tiny"), last(tmp_path / "whole", "tiny"))
    ours, theirs = load(tmp_path / "whole" / "models" / "tiny"), load(PUBLISHED)
    before = read(EARLIER / "stopped" / "tiny" / "step_00000003").weights
    for name, moved in MOVED.items():
        found = (ours.model.state_dict()[name] - before[name]).norm().item()
        assert found == pytest.approx(moved, rel=1e-2), name
    assert torch.equal(ours.mean_3HW, theirs.mean_3HW)
    unknown = {"macro_top1": None}  # was not measured then
    accuracy = [each.model_copy(update=unknown) for each in ours.about.accuracy]
    assert accuracy == list(theirs.about.accuracy)
