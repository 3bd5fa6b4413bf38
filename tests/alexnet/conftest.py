"""A model small enough to answer in milliseconds."""

from pathlib import Path

import pytest

from alexnet.checkpoint import Checkpoint, load
from tests.serving.conftest import publish


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return publish(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def checkpoint(model: Path) -> Checkpoint:
    return load(model)
