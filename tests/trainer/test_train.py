"""Whole runs as a user starts them: real Ray, two worker processes."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tensorboardX.proto import event_pb2

from alexnet import console
from alexnet.checkpoint import current, load
from alexnet.similar import read_about
from pipeline.dataset import Dataset
from trainer.arguments import COMMANDS
from trainer.loop import state
from trainer.run import events as told

OPTIONS = (
    "--epochs", "3", "--batch", "4", "--workers", "2",
    "--set", "size=128", "--set", "network.crop=112", "--set", "network.width=0.25",
    "--set", "rate=0.0003",
    "--set", "precision=fp32",  # also where a processor multiplies in 16 bits
)  # fmt: skip
SHORT = ("--epochs", "1", "--workers", "1")


def arguments(name: str, dataset: Path, folder: Path) -> list[str]:
    return [
        "trainer", "train", "--data", str(dataset), "--name", name, *OPTIONS,
        "--runs", str(folder / "runs"), "--models", str(folder / "models"),
    ]  # fmt: skip


def events(folder: Path, name: str) -> list[dict]:
    path = folder / "runs" / name / "metrics.jsonl"
    return list(told(path)) if path.exists() else []


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory, run: Callable) -> Path:
    """A folder with one finished run, `whole`, and its published model with an index."""
    folder = tmp_path_factory.mktemp("trained")
    done = run(*arguments("whole", dataset, folder), "--index")
    assert done.returncode == 0, done.stderr
    assert "validation accuracy top-1" in done.stdout
    published, index = done.stdout.splitlines()[-3::2]
    assert re.match(
        rf"published {folder}/models/whole/00000081, top-1 [\d.]+% by 10 views; to serve", published
    )
    assert index == f"{folder}/models/whole/00000081/similar"
    return folder


def test_a_finished_run_is_published_as_it_was_trained(trained: Path, dataset: Path) -> None:
    model, mean_3HW, about, _ = load(trained / "models" / "whole")
    last = max((trained / "runs" / "whole").glob("step_*"))
    saved = state.read(last)
    assert about.step == saved.progress.step == 3 * 27
    assert (saved.progress.epoch, saved.progress.position) == (3, 0)
    one_view = about.accuracy[0]
    assert saved.progress.errors[-1] == 1 - one_view.top1 / one_view.pictures
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, saved.weights[name])
    assert mean_3HW.shape == (3, 112, 112)
    packed = Dataset(dataset)
    assert about.dataset == packed.digest
    assert [label.id for label in about.classes] == ["disc", "ring", "square"]
    assert [(a.views, a.pictures) for a in about.accuracy] == [(1, 12), (10, 12)]


def test_the_index_is_of_all_training_images(trained: Path, dataset: Path) -> None:
    step = current(trained / "models" / "whole")
    index = read_about(step, load(step).about)
    assert index is not None
    assert (index.pictures, index.dataset) == (108, Dataset(dataset).digest)


def test_metrics_tell_of_every_sample_and_epoch(trained: Path) -> None:
    lines = events(trained, "whole")
    assert sum(e["samples"] for e in lines if e["kind"] == "train") == 3 * 108
    assert {e["workers"] for e in lines if e["kind"] == "train"} == {2}
    assert [e["epoch"] for e in lines if e["kind"] == "val"] == [1, 2, 3, 3]


def test_tensorboard_shows_curves_images_and_kernels(trained: Path) -> None:
    (file,) = (trained / "runs" / "whole" / "tensorboard").iterdir()
    tags = {
        value.tag
        for record in records(file.read_bytes())
        for value in event_pb2.Event.FromString(record).summary.value
    }
    assert {"loss", "rate", "images_per_s", "loader_wait", "gradient_norm"} <= tags
    assert {"error/train_top1", "error/validation_top5_10_views"} <= tags
    assert any(tag.startswith("training_pictures") for tag in tags)
    assert any(tag.startswith("conv1") for tag in tags)


def records(content: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file: length, its checksum, content, its checksum."""
    while content:
        size = int.from_bytes(content[:8], "little")
        yield content[12 : 12 + size]
        content = content[16 + size :]


def test_a_name_is_not_trained_twice(
    trained: Path, dataset: Path, run_on_cluster: Callable
) -> None:
    done = run_on_cluster(*arguments("whole", dataset, trained))
    assert done.returncode == 2
    assert "run whole exists already" in done.stderr
    assert "--resume" in done.stderr


@pytest.mark.slow
@pytest.mark.long  # test_failure.py damages a shard, which ends a run in the same way
def test_a_worker_that_fails_is_named(dataset: Path, run: Callable, tmp_path: Path) -> None:
    """A shard that is gone: one line, not a traceback, and not for ever."""
    broken = tmp_path / "broken"
    broken.mkdir()
    for entry in dataset.iterdir():
        (broken / entry.name).symlink_to(entry)
    (broken / "train").unlink()
    (broken / "train").mkdir()
    (broken / "train" / "index.npy").symlink_to(dataset / "train" / "index.npy")
    done = run(*arguments("broken", broken, tmp_path), *SHORT)
    assert done.returncode == 2
    assert "run broken failed: worker" in done.stderr
    assert "00000.tar" in done.stderr


@pytest.mark.slow
def test_a_published_model_is_fine_tuned_on_photographs_that_are_not_packed(
    photographs: Path, two_models: tuple[Path, Path], run: Callable, tmp_path: Path
) -> None:
    """With a sixth convolution, and the mean colour in place of the mean image."""
    published = two_models[0]
    done = run(
        *arguments("tuned", photographs, tmp_path), *SHORT, "--init-from", published,
        "--set", "network.width=0.1", "--set", "network.sixth_conv=true", "--set", "rate=0.0001",
        "--mean", "channel",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    model, mean_3HW, about, _ = load(tmp_path / "models" / "tuned")
    old, new = load(published).model.state_dict(), model.state_dict()
    assert "conv6.weight" in new
    assert (new["conv2.weight"] - old["conv2.weight"]).abs().max() < 0.01
    assert not torch.equal(new["conv2.weight"], old["conv2.weight"])
    assert torch.equal(mean_3HW, mean_3HW[:, :1, :1].expand_as(mean_3HW))
    listed = Dataset(tmp_path / "runs" / "tuned" / "photographs")
    assert torch.allclose(mean_3HW[:, 0, 0], torch.tensor(listed.manifest.colour.mean))
    assert about.dataset == listed.digest
    assert about.recipe["mean"] == "channel"
    assert [(a.views, a.pictures) for a in about.accuracy] == [(1, 12), (10, 12)]


PLACES = ("--name", "x", "--set", "size=128", "--set", "network.crop=112")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--recipe", "large"), "no recipe 'large'; give paper, fast, small, finetune, or a file"),
        (("--set", "rate=-1"), "--set rate is -1: expected more than 0"),
        (("--set", "network.crop=160"), "network.crop (160) exceeds size (128)"),
        (("--init-from", "nowhere"), "nowhere: there is no published model"),
        (("--workers", "4:2"), "--workers is 4:2: the first number of a range is the smaller one"),
        (("--depth", "9"), "No such option: --depth"),
        (("--epochs", "0"), "--epochs is 0: expected more than 0"),
        (("--resume", "--resume-if-any"), "exclude each other; give one of them"),
        (("--name", "a/b"), "--name is a/b: a name is made of letters"),
        (("--set", "size=256"), "the recipe small takes 256; pack them with --size 256"),
    ],
)
def test_bad_usage_is_one_line(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple, text: str
) -> None:
    places = ["--data", str(dataset), "--runs", str(tmp_path), *PLACES]
    assert alexnet("train", *places, *words) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_what_the_cluster_does_not_have_is_one_line(
    dataset: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    """What else there is of the kind stands in test_plan.py."""
    words = ("--data", dataset, "--runs", tmp_path, *PLACES, "--workers", 999)
    done = run_on_cluster("trainer", "train", *words)
    assert done.returncode == 2
    assert "--workers is 999, this cluster has" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def alexnet(*words: object) -> int:
    """The status of a command in this process."""
    return console.run("alexnet", COMMANDS, arguments=list(map(str, words)))


def test_a_dataset_of_another_version(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = json.loads((dataset / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(fields | {"version": 9}))
    assert alexnet("train", "--data", tmp_path, "--name", "x") == 2
    assert (
        "the dataset has version 9, but this program reads version 1; pack the source again"
        in capsys.readouterr().err
    )


def test_curves_are_drawn(trained: Path, tmp_path: Path, run: Callable) -> None:
    runs = ("--runs", trained / "runs")
    done = run("trainer", "report", "whole", tmp_path / "curve", *runs)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "training loss" in (tmp_path / "curve.svg").read_text()
    assert alexnet("report", "none", tmp_path / "x", *runs) == 2


def test_the_best_checkpoint_can_be_published(
    trained: Path, dataset: Path, run: Callable, tmp_path: Path
) -> None:
    top1 = {e["step"]: e["top1"] for e in events(trained, "whole") if e.get("views") == 1}
    places = ("--runs", trained / "runs", "--models", tmp_path)
    done = run("trainer", "publish", "whole", "--best", *places)
    assert done.returncode == 0, done.stderr
    about = load(tmp_path / "whole").about
    assert top1[about.step] == max(top1.values()) == about.accuracy[0].top1
    assert alexnet("publish", "none", *places) == 2


def test_a_recipe_is_printed_as_it_would_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert alexnet("recipe", "--recipe", "paper", "--set", "network.sixth_conv=true") == 0
    printed = capsys.readouterr().out
    file = tmp_path / "paper.yaml"
    file.write_text("recipe: paper\n" + printed)
    assert alexnet("recipe", "--recipe", file) == 0
    assert capsys.readouterr().out == printed
    assert "sixth_conv: true" in printed


@pytest.mark.slow
def test_a_run_that_ends_early_publishes_the_best_that_it_kept(
    dataset: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    """At a learning rate that changes nothing all epochs are equal, and the first is the best:
    Ray keeps it beside the last one."""
    words = [
        *arguments("short", dataset, tmp_path),
        "--set", "rate=1.0e-12", "--epochs", 9, "--stop-after", 2, "--publish", "best", "--keep", 1,
        "--workers", 1,
    ]  # fmt: skip
    done = run_on_cluster(*words)
    assert done.returncode == 0, done.stderr
    assert "ended after 3 of 9 epochs: 2 without a lower validation error" in done.stdout
    assert load(tmp_path / "models" / "short").about.step == 27
    kept = {path.name for path in (tmp_path / "runs" / "short").glob("step_*")}
    assert kept == {"step_00000027", "step_00000081"}
    done = run_on_cluster(*words, "--stop-after", 1, "--resume")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "began with stop_after = 2, but now it is 1" in done.stderr
