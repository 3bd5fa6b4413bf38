"""Models below a URL in every command that writes or reads one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from alexnet import checkpoint, similar
from alexnet.store.models import local, read_about, upload
from alexnet.store.url import StoreURL
from tests.object_store import Server, environment
from trainer.publishing.exports import export

pytestmark = pytest.mark.slow
MODELS = StoreURL("s3://private/models-of-commands")


def test_a_model_is_made_and_used_without_a_folder_of_models(
    dataset: Path,
    two_models: tuple[Path, Path],
    store_server: Server,
    run: Callable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(*words: object) -> str:
        done = run("trainer", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    monkeypatch.setenv("ALEXNET_CACHE", str(tmp_path / "cache"))
    model = MODELS / "tuned"
    publish = "--runs", tmp_path / "runs", "--models", MODELS
    with environment(store_server.environment()):
        start = upload(checkpoint.current(two_models[0]), MODELS)
        said = told(
            "train", "--data", dataset, "--name", "tuned", "--recipe", "finetune", "--init-from",
            start.parent, "--epochs", 1, "--batch", 32, "--index", *publish,
        )  # fmt: skip
        assert f"published {model}/" in said
        assert f"to serve it: alexnet serve --model {model}" in said
        copy = local(model)
        about = read_about(model)
        assert similar.read_about(copy, about)

        told("evaluate", model, "--data", dataset, "--views", 1, "--calibrate")
        assert f"published {model}/" in told("publish", "tuned", *publish)
        kept = read_about(model)
        assert kept.weights_sha256 == about.weights_sha256
        assert kept.calibration(views=1)

        export(model, tmp_path / "tuned.pt2")
        assert (tmp_path / "tuned.pt2").stat().st_size
    assert not list(tmp_path.rglob("models/tuned/current.json"))
