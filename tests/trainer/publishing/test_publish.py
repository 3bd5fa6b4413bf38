"""What is published of a run is what its checkpoint, its metrics and its dataset say."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from alexnet.checkpoint import Accuracy, load
from alexnet.model import AlexNet
from pipeline.dataset import Dataset
from pipeline.photographs import index_photographs
from pipeline.sources.folder import folder_source
from trainer.loop.state import Progress, Saved
from trainer.publishing.publish import publish
from trainer.resolution import resolve
from trainer.run import Run, RunError, find_run, open_run

TRAINED = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
STEP = 9


@pytest.fixture
def run(photographs: Path, tmp_path: Path) -> Run:
    """A run of photographs that stands at step 9, validated with one view."""
    data = index_photographs(folder_source(photographs, 0.1, {}), tmp_path / "listed", 72)
    recipe = resolve(
        "small",
        {},
        [("size", 72), ("network.crop", 64), ("network.width", 0.1), ("network.classes", 3)],
    )
    fields = {
        "name": "r", "recipe": recipe, "data": data.folder, "dataset": data.digest,
        "runs": tmp_path / "runs", "workers": (1, 1), "gpu": False,
    }  # fmt: skip
    run = open_run(Run.model_validate(fields), resume="no")
    torch.manual_seed(3)
    saved = Saved(
        progress=Progress(epoch=1, step=STEP),
        weights=AlexNet(recipe.network).state_dict(),
        velocity={},
        learning_rates=(0.01, 0.02),
    )
    checkpoint(run).mkdir()
    saved.write(checkpoint(run))
    tell(run, kind="train", step=STEP - 1, time=1.0)
    tell(run, kind="train", step=STEP, time=TRAINED.timestamp() + 0.5)
    tell(run, kind="val", step=STEP, **accuracy(1, top1=5).model_dump(), time=2e9)
    return run


def checkpoint(run: Run) -> Path:
    return run.directory / f"step_{STEP:08d}"


def tell(run: Run, **event: object) -> None:
    with run.metrics.open("a") as file:
        file.write(json.dumps(event) + "\n")


def accuracy(views: int, top1: int) -> Accuracy:
    return Accuracy(views=views, pictures=12, top1=top1, top5=12)  # type: ignore[arg-type]


def test_published_again_it_has_what_was_measured_since(run: Run, tmp_path: Path) -> None:
    models = tmp_path / "models"
    directory = publish(run, checkpoint(run), models)
    first = load(models / "r")
    assert (first.about.step, first.about.trained_at) == (STEP, TRAINED)
    assert first.about.accuracy == (accuracy(1, top1=5),)

    tell(run, kind="val", step=STEP, **accuracy(1, top1=6).model_dump(), time=2e9)
    tell(run, kind="val", step=STEP, **accuracy(10, top1=7).model_dump(), time=2e9)
    tell(run, kind="val", step=STEP + 1, **accuracy(10, top1=1).model_dump(), time=2e9)
    weights = (directory / "model.safetensors").stat()
    assert publish(run, checkpoint(run), models) == directory
    again = load(models / "r")
    assert again.about.accuracy == (accuracy(1, top1=6), accuracy(10, top1=7))
    assert again.about.trained_at == TRAINED
    assert (directory / "model.safetensors").stat() == weights
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor)


def test_the_dataset_may_be_another_copy_and_the_folder_of_runs_may_move(
    run: Run, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(run.data, tmp_path / "copy"))
    open_run(run.model_copy(update={"data": copy}), resume="yes")
    shutil.rmtree(run.data)
    moved = run.runs.rename(tmp_path / "moved")
    again = find_run(moved, "r")
    assert publish(again, checkpoint(again), tmp_path / "models").is_dir()


def test_another_dataset_in_its_place_is_refused(
    run: Run, photographs: Path, tmp_path: Path
) -> None:
    shutil.rmtree(run.data)
    other = index_photographs(folder_source(photographs, 0.5, {}), run.data, 72)
    assert Dataset(run.data).digest == other.digest != run.dataset
    with pytest.raises(RunError, match="not the dataset that run r was trained on any more"):
        publish(run, checkpoint(run), tmp_path / "models")
    assert not (tmp_path / "models").exists()
