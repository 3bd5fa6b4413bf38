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
from trainer.evaluation.report.cross_validation import training_of
from trainer.recipes import RECIPES

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
    assert "2 networks trained as this one was" in page
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


@pytest.mark.slow
def test_folds_of_a_fine_tuned_model_start_where_it_did(
    dataset: Path, two_models: tuple[Path, Path], tmp_path: Path, run_on_cluster: Callable
) -> None:
    done = run_on_cluster(
        "trainer", "train", "--recipe", "finetune", "--init-from", two_models[0], "--data", dataset,
        "--name", "tuned", "--runs", tmp_path / "runs", "--models", tmp_path / "models",
        "--workers", 1, "--epochs", 1,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = (
        "trainer", "evaluate", tmp_path / "models" / "tuned", "--data", dataset, "--views", 1,
        "--report", tmp_path / "report", "--folds", 2, "--init-from",
    )  # fmt: skip
    done = run_on_cluster(*words, two_models[0])
    assert done.returncode == 0, done.stderr
    (folds,) = (tmp_path / "report" / "folds").iterdir()
    whole_NK = np.load(folds / "all.npy")
    assert whole_NK.sum(1) == pytest.approx(1, abs=1e-5)
    assert "2 networks trained as this one was" in (tmp_path / "report" / "index.html").read_text()
    done = run_on_cluster(*words, tmp_path / "models" / "tuned")  # a network that fits as well
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "report" / "folds").iterdir())) == 2  # other networks


def test_how_a_model_was_trained_is_known_or_refused(
    two_models: tuple[Path, Path], dataset: Path
) -> None:
    about, data = checkpoint.load(checkpoint.current(two_models[0])).about, Dataset(dataset)

    def trained_by(recipe: dict[str, Any]) -> About:
        return about.model_copy(update={"recipe": recipe})

    small = RECIPES["small"]()
    assert training_of(trained_by(small.model_dump(mode="json")), data, None) == (small, None)
    with pytest.raises(UserError, match="wide was, but this was imported; give a model"):
        training_of(trained_by({"imported": "torchvision"}), data, two_models[0])
    finetuned = RECIPES["finetune"]().model_copy(update={"network": about.network})
    tuned = trained_by(finetuned.model_dump(mode="json"))
    with pytest.raises(UserError, match="this was fine-tuned; give --init-from with the model"):
        training_of(tuned, data, None)
    recipe, start = training_of(tuned, data, two_models[0])
    assert recipe == finetuned
    assert start
    assert start.model == checkpoint.current(two_models[0])
    other = trained_by(RECIPES["finetune"]().model_dump(mode="json"))
    with pytest.raises(UserError, match="was not fine-tuned from this model, whose"):
        training_of(other, data, two_models[0])
