"""What is asked for becomes a run of the cluster's resources, or is refused at once."""

import json
from collections.abc import Callable
from math import ceil
from pathlib import Path

import pytest

from alexnet.checkpoint import load
from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from trainer.arguments import Train
from trainer.on_ray.resources import Machine, Resources
from trainer.plan import few_steps, find_dataset, make_run, recipe_changes, starting_model
from trainer.publishing.imports import FOLDED
from trainer.resolution import resolve
from trainer.run import Run, RunError

PLAIN = Resources((Machine(0, 0), Machine(4, 0), Machine(8, 0)))
GPUS = Resources((Machine(16, 0), Machine(32, 2), Machine(32, 4)))


def planned(photographs: Path, folder: Path, resources: Resources, **changes: object) -> Run:
    options = Train.model_validate(
        {"data": photographs, "name": "r", "runs": folder, "recipe": "small", **changes}
    )
    recipe = resolve(options.recipe, {}, recipe_changes(options))
    dataset = find_dataset(options, recipe.size, recipe.batch)
    assert dataset
    return make_run(options, recipe, dataset, None, resources)


def test_options_are_the_runs(photographs: Path, tmp_path: Path) -> None:
    changes = {"micro_batch": 8, "keep": 3, "retries": 5, "damage": "replace",
               "hw_decoder_load": 0.25, "parallelism": "towers", "workers": "2",
               "deterministic": True, "save_every": 9}  # fmt: skip
    run = planned(photographs, tmp_path, PLAIN, epochs=7, freeze=["conv1,fc7"], **changes)
    assert {name: getattr(run, name) for name in changes} == changes | {"workers": (2, 2)}
    assert (run.recipe.epochs, run.recipe.network.classes) == (7, 3)
    assert run.recipe.frozen == ("conv1", "fc7")
    listed = Dataset(tmp_path / "r" / "photographs")
    assert (run.data, run.dataset) == (listed.folder, listed.digest)
    assert Run.model_validate_json(run.model_dump_json()) == run
    saved = run.model_dump(mode="json")
    assert {"micro", "hw_load", "save_every_s"} < saved.keys()  # as in runs of before


def test_few_images_get_more_epochs_until_they_make_the_least_steps(
    photographs: Path, tmp_path: Path
) -> None:
    least = {"batch": 32, "set": [("least_steps", 200)]}
    run = planned(photographs, tmp_path, PLAIN, **least)
    steps = ceil(len(Dataset(run.data).train) / 32)
    assert 0 <= run.recipe.epochs * steps - 200 < steps
    assert planned(photographs, tmp_path, PLAIN, epochs=7, **least).recipe == run.recipe
    assert planned(photographs, tmp_path, PLAIN, epochs=7, batch=32).recipe.epochs == 7


def test_one_worker_for_each_gpu_or_machine(photographs: Path, tmp_path: Path) -> None:
    for resources, device, workers in (
        (PLAIN, "auto", 2), (GPUS, "auto", 6), (GPUS, "cpu", 3),
        (Resources((Machine(4, 0), Machine(2, 8))), "gpu", 2),
    ):  # fmt: skip
        run = planned(photographs, tmp_path, resources, device=device)
        assert run.workers == (workers, workers)
        assert run.gpu == (resources is not PLAIN and device != "cpu")


@pytest.mark.parametrize(
    ("resources", "changes", "text"),
    [
        (PLAIN, {"workers": "13"}, "--workers is 13, this cluster has 12 CPUs"),
        (
            PLAIN,
            {"device": "gpu"},
            r"1 GPU\(s\) .* this cluster has none; use --device cpu",
        ),
        (GPUS, {"workers": "7"}, r"7 GPU\(s\) asked for, this cluster has 6"),
        (
            Resources((Machine(4, 0), Machine(0, 2))),
            {"workers": "2"},
            r"2 worker\(s\) asked for, each with a GPU and a CPU of one machine, .* for 0; lower",
        ),
        (GPUS, {"workers": "3", "batch": 2}, "--workers is 3, more than the 2 images of a batch"),
        (PLAIN, {"workers": "1", "parallelism": "towers"}, "an even number of --workers, not 1"),
        (GPUS, {"workers": "2:4", "parallelism": "towers"}, "give --workers one number"),
        (
            GPUS,
            {"workers": "2", "parallelism": "towers", "freeze": "conv,fc6,fc7"},
            "--parallelism towers has nothing for the second tower to learn",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    photographs: Path, tmp_path: Path, resources: Resources, changes: dict, text: str
) -> None:
    with pytest.raises(RunError, match=text):
        planned(photographs, tmp_path, resources, **changes)


def test_a_word_is_packed_later(tmp_path: Path) -> None:
    options = Train(data=Path("builtin"), name="r", datasets=tmp_path)
    assert find_dataset(options, 64, 8) is None


def test_a_run_starts_with_the_network_of_a_model(
    two_models: tuple[Path, Path], photographs: Path, dataset: Path, tmp_path: Path
) -> None:
    options = Train(data=photographs, name="r", runs=tmp_path, init_from=two_models[0])
    start = starting_model(options)
    assert start
    assert (start.model, start.size) == (two_models[0] / "00000007", 128)
    recipe = resolve("small", {}, [], start)
    found = find_dataset(options, recipe.size, recipe.batch)
    assert found
    assert found.manifest.size == 128
    run = make_run(options, recipe, found, start, PLAIN)
    assert run.init_from == two_models[0] / "00000007"
    assert run.recipe.network == load(two_models[0]).about.network
    assert starting_model(Train(data=Path("d"), name="r")) is None
    with pytest.raises(RunError, match="finetune trains a model's weights on; give --init-from"):
        starting_model(Train(data=Path("d"), name="r", recipe="finetune"))


def test_what_a_run_starts_from_is_checked(
    two_models: tuple[Path, Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    model, models = two_models[0], two_models[0].parent
    for options, text in (
        (Train(data=dataset, name="r", freeze=["conv"]), "without --init-from they are random"),
        (
            Train(data=dataset, name="r", init_from=Path(model.name), models=models),
            f"did you mean {model}",
        ),
    ):
        with pytest.raises(RunError, match=text):
            starting_model(options)
    assert starting_model(Train(data=dataset, name="r", init_from=model))
    assert capsys.readouterr().err == ""
    manifest = json.loads((dataset / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"size": 256}))
    for part in ("train", "val", "mean.npy"):
        (tmp_path / part).symlink_to(dataset / part)
    start = starting_model(Train(data=tmp_path, name="r", init_from=model))
    assert start
    assert start.size == 256
    assert "things look 2 times as large to it; better pack" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("images", "batch", "epochs", "told"),
    [(244, 64, 12, "--epochs 50 makes 200"), (6400, 64, 2, None), (6399, 64, 1, "--epochs 2 ")],
)
def test_too_few_steps_are_told(
    photographs: Path, tmp_path: Path, images: int, batch: int, epochs: int, told: str | None
) -> None:
    run = planned(photographs, tmp_path, PLAIN, epochs=epochs)
    run = run.model_copy(update={"recipe": run.recipe.model_copy(update={"batch": batch})})
    said = few_steps(run, images)
    assert said is None if told is None else said and told in said


def test_wrong_data_is_refused_before_torchvision_is_fetched(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALEXNET_TORCHVISION_URL", (tmp_path / "none").as_uri())
    options = Train(data=dataset, name="r", init_from=Path("torchvision"), models=tmp_path)
    with pytest.raises(RunError, match="128 x 128 pixels, but the network of torchvision sees 224"):
        starting_model(options)
    missing = options.model_copy(update={"data": tmp_path / "missing"})
    with pytest.raises(DatasetError, match=f"{tmp_path}/missing"):
        starting_model(missing)


def test_a_run_learns_as_an_imported_model_would_have_without_its_folding(
    publish: Callable, photographs: Path
) -> None:
    """Also one that starts from what such a run has published."""
    for name, recipe in (
        ("imported", {"imported": "torchvision"}),
        ("tuned", {"folded": FOLDED["torchvision"], "rate": 0.1}),
    ):
        model = publish(name, crop=64, size=72)
        about = model / "00000007" / "about.json"
        about.write_text(json.dumps(json.loads(about.read_text()) | {"recipe": recipe}))
        start = starting_model(Train(data=photographs, name="r", init_from=model))
        assert resolve("small", {}, [], start).folded == FOLDED["torchvision"]


def test_its_crops_are_taken_from_the_images_there_are(
    publish: Callable, dataset: Path, tmp_path: Path
) -> None:
    """The images of `dataset` have 128 x 128 pixels."""
    options = Train(data=dataset, name="r", init_from=publish("wider", crop=120, size=256))
    start = starting_model(options)
    assert start
    recipe = resolve("paper", {}, [], start)
    assert (start.size, recipe.size, recipe.network.crop) == (128, 128, 120)
    found = find_dataset(options, recipe.size, recipe.batch)
    assert found
    large = Train(data=dataset, name="r", init_from=publish("large", crop=144, size=160))
    with pytest.raises(RunError, match=r"the images have 128 x 128 pixels, .* sees 144 x 144; pack "
                       r"them with --size 160, as those it was trained on"):  # fmt: skip
        starting_model(large)
