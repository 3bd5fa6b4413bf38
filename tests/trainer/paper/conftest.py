"""A CIFAR-10 that is drawn."""

from pathlib import Path

import numpy as np
import pytest

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
