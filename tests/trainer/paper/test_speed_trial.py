"""How fast a machine trains."""

from pathlib import Path

import pytest

from pipeline.dataset import Dataset
from trainer.paper.experiment import Place
from trainer.paper.speed_trial import measure_training, rate, speed_row, trained_on

SMALL = {"size": 128, "network.crop": 64, "network.width": 0.1, "batch": 32, "epochs": 1}


def test_a_speed_is_all_images_over_the_time_that_they_took() -> None:
    # Ten images in two seconds, half of which was waited; then ninety in three, without.
    lines = [
        {"samples": 10, "images_per_s": 5.0, "wait": 0.5},
        {"samples": 90, "images_per_s": 30.0, "wait": 0.0},
    ]
    assert rate(lines) == pytest.approx({"images": 100, "seconds": 5, "waiting": 0.2})


def test_it_trains_for_a_while_and_leaves_nothing(dataset: Path, tmp_path: Path) -> None:
    row = speed_row(SMALL, 2, trained_on("cpu"), Dataset(dataset))
    found = measure_training(row.settings, Place(row.data, tmp_path, 1, gpu=False))
    assert found["images"] > 0
    assert found["seconds"] > 0
    assert 0 <= found["waiting"] <= 1
    assert not list(tmp_path.glob("runs/*"))
