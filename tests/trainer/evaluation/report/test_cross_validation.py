"""Training images judged by networks that have not seen them: the whole command, and again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alexnet import checkpoint
from alexnet.checkpoint import About
from alexnet.command import UserError
from pipeline.dataset import Dataset
from pipeline.folds import fold_of
from trainer.evaluation.report.cross_validation import recipe_of
from trainer.recipe import RECIPES

TINY = ("network.width=0.1", "network.crop=112", "size=128", "batch=16", "epochs=1")


@pytest.mark.slow
def test_folds_are_trained_once(dataset: Path, tmp_path: Path, run_on_cluster: Callable) -> None:
    settings = [word for change in TINY for word in ("--set", change)]
    done = run_on_cluster(
        "trainer", "train", "--recipe", "small", "--data", dataset, "--name", "tiny",
        "--runs", tmp_path / "runs", "--models", tmp_path / "models", "--workers", 1, *settings,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr

    def report(told: bool) -> str:
        done = run_on_cluster(
            "trainer", "evaluate", tmp_path / "models" / "tiny", "--data", dataset, "--views", 1,
            "--report", tmp_path / "report", "--folds", 2,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert ("fold 2 of 2: training without" in done.stderr) == told
        assert f"the page: {tmp_path}/report/index.html\n" in done.stdout
        return (tmp_path / "report" / "index.html").read_text()

    page = report(told=True)
    assert "2 networks trained by the same recipe" in page
    (folds,) = (tmp_path / "report" / "folds").iterdir()
    found = {path.name: path.stat().st_mtime_ns for path in folds.glob("[01].npy")}
    assert sorted(found) == ["0.npy", "1.npy"]
    assert not list(folds.rglob("*.safetensors"))  # nor checkpoints
    packed = Dataset(dataset)
    whole_NK, fold_N = np.load(folds / "all.npy"), fold_of(packed, 2)
    assert whole_NK.sum(1) == pytest.approx(1, abs=1e-5)
    for fold in range(2):
        assert (whole_NK[fold_N == fold] == np.load(folds / f"{fold}.npy")).all()
    assert report(told=False) == page
    assert {path.name: path.stat().st_mtime_ns for path in folds.glob("[01].npy")} == found
    shutil.rmtree(tmp_path / "report" / "folds")


def test_models_of_another_origin_are_refused(two_models: tuple[Path, Path]) -> None:
    about = checkpoint.load(checkpoint.current(two_models[0])).about

    def trained_by(recipe: dict[str, Any]) -> About:
        return about.model_copy(update={"recipe": recipe})

    small = RECIPES["small"]()
    assert recipe_of(trained_by(small.model_dump(mode="json"))) == small
    with pytest.raises(UserError, match="wide was, but this was imported; give a model"):
        recipe_of(trained_by({"imported": "torchvision"}))
    finetuned = RECIPES["finetune"]().model_dump(mode="json")
    with pytest.raises(UserError, match="this was trained on from another model's weights; give"):
        recipe_of(trained_by(finetuned))
