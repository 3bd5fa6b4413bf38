"""Which failures to load a model are final, and which are retried; reloading stands in
test_reload.py."""

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from math import isnan
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from alexnet import checkpoint
from alexnet.calibration import Calibration, Errors
from serving.models import Models, Served
from tests.serving.conftest import publish

WEIGHTS, ABOUT = "model.safetensors", "about.json"
WRITTEN = 1_000_000_000
"""When each file was written: the same before and after, as where a disk or memory recovers."""


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("serving.models.RETRY_PAUSE", 0)
    return checkpoint.current(publish(tmp_path))


def test_a_model_is_prepared_before_it_answers(step: Path) -> None:
    answering: list[Served | None] = []

    async def prepare(served: Served) -> None:
        assert isinstance(served, Served)
        answering.append(models.served)

    models = Models((step,))
    models.prepare = prepare
    asyncio.run(models.look())
    assert answering == [None]
    assert models.served


def test_the_published_accuracy_is_a_metric(step: Path) -> None:
    def metric(mean: str) -> float | None:
        name, labels = "serving_validation_accuracy", {"views": "10", "mean": mean}
        return REGISTRY.get_sample_value(name, labels)

    asyncio.run(Models((step,)).look())
    assert isnan(metric("images") or 0)
    about = json.loads((step / ABOUT).read_bytes())
    about["accuracy"] = [{"views": 10, "pictures": 8, "top1": 6, "top5": 8, "macro_top1": 0.5}]
    (step / ABOUT).write_text(json.dumps(about))
    asyncio.run(Models((step,)).look())
    assert (metric("images"), metric("classes")) == (0.75, 0.5)


def unreadable(path: Path) -> None:
    path.unlink()
    path.mkdir()


def other_layers(path: Path) -> None:
    about = json.loads(path.read_bytes())
    about["network"]["classes"] = 8
    path.write_text(json.dumps(about))


def flipped_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)


def failed_then_recovered(step: Path, name: str, fail: Callable[[Path], None]) -> Models:
    """Models that failed to load `step`, whose files have become good unnoticed since."""
    path, content = step / name, (step / name).read_bytes()
    fail(path)
    os.utime(path, (WRITTEN, WRITTEN))
    models = Models((step,))
    asyncio.run(models.look())
    assert models.failed
    if path.is_dir():
        path.rmdir()
    path.write_bytes(content)
    os.utime(path, (WRITTEN, WRITTEN))
    return models


@pytest.mark.parametrize(
    ("name", "fail"),
    [
        (WEIGHTS, unreadable),
        (ABOUT, unreadable),
        (ABOUT, other_layers),  # torch's RuntimeError, as where memory is short
    ],
)
def test_what_may_have_been_the_fault_of_disk_or_memory_is_retried(
    step: Path, name: str, fail: Callable[[Path], None]
) -> None:
    models = failed_then_recovered(step, name, fail)
    asyncio.run(models.look())
    assert models.served is not None
    assert models.failed is None


@pytest.mark.parametrize("swap", ["link", "copy"])
def test_another_model_of_equal_step_and_times_is_noticed(tmp_path: Path, swap: str) -> None:
    """As the volume of a container's image, or a symbolic link, brings it."""
    homes = [publish(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    for path in (*homes[0].rglob("*"), *homes[1].rglob("*")):
        os.utime(path, (WRITTEN, WRITTEN))
    link = tmp_path / "models"
    link.symlink_to(homes[0])
    models = Models((link,))
    asyncio.run(models.look())
    first = models.served
    asyncio.run(models.look())
    assert models.served is first
    if swap == "link":
        link.unlink()
        link.symlink_to(homes[1])
    else:
        shutil.copytree(homes[1], homes[0], dirs_exist_ok=True)
    asyncio.run(models.look())
    assert models.served is not None
    assert (
        models.served.name.sha256
        == checkpoint.read_about(checkpoint.current(homes[1])).weights_sha256
    )


def test_a_calibration_is_taken_in_place(step: Path) -> None:
    """The weights and their golden answer stay."""
    models = Models((step,))
    asyncio.run(models.look())
    before = models.ready()
    errors = Errors(ece=0.1, nll=1.0)
    found = Calibration(
        temperature=2.5, views=10, dataset="d", pictures=20, before=errors, after=errors
    )
    checkpoint.calibrate(step, [found])
    asyncio.run(models.look())
    after = models.ready()
    assert (models.failed, after.name) == (None, before.name)
    assert (before.predictor.calibrated, after.predictor.calibrated) == ((), (10,))
    assert after.predictor.about.golden == before.predictor.about.golden


def test_a_wrong_digest_is_final_until_the_folder_changes(step: Path) -> None:
    models = failed_then_recovered(step, WEIGHTS, flipped_bit)
    asyncio.run(models.look())
    assert "the file is damaged" in str(models.failed)
    os.utime(step / WEIGHTS)
    asyncio.run(models.look())
    assert models.served is not None


def test_a_model_waits_until_there_is_memory_for_it(
    step: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models((step,))
    with monkeypatch.context() as short:
        short.setattr("serving.memory.available_bytes", lambda: 1_000_000)
        asyncio.run(models.look())
        assert models.served is None
        assert "of memory, and 0.0 GB are free" in str(models.failed)
    asyncio.run(models.look())
    assert models.served is not None
