"""A CIFAR-10 that is drawn, and an experiment with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from trainer.paper.figure1 import Budget, Figure1

RECORDS = 300


@pytest.fixture(scope="session")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file of 300 images, whose lightness tells the label."""
    folder = tmp_path_factory.mktemp("cifar")
    random = np.random.default_rng(0)
    label_N1 = (np.arange(RECORDS) % 10)[:, None]
    pixel_NP = 20 * label_N1 + random.integers(0, 60, (RECORDS, 3072))
    record_NB = np.concatenate([label_N1, pixel_NP], axis=1).astype(np.uint8)
    (folder / "data_batch_1.bin").write_bytes(record_NB.tobytes())
    return folder


@pytest.fixture
def figure(cifar: Path) -> Figure1:
    budget = Budget((0.001, 0.002), sweep_epochs=1, epochs=2, images=200)
    return replace(Figure1.of(cifar, "quick", seeds=2), budget=budget, images=200)
