"""The main job on real photographs, through real processes: pack, train, serve, ask over HTTP."""

import json
import signal
from collections.abc import Callable, Iterator
from math import log
from pathlib import Path

import pytest
import torch

from alexnet.checkpoint import load
from alexnet.pixels import whole_image
from alexnet.views import probabilities
from tests.conftest import ROOT
from tests.serving.conftest import Server, serve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def photographs_of_imagenette(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes, forty photographs each to train on, ten each held out."""
    folder = tmp_path_factory.mktemp("imagenette")
    for split, count in (("train", 40), ("val", 10)):
        for class_folder in sorted((test_data / "imagenette" / split).iterdir()):
            (folder / split / class_folder.name).mkdir(parents=True)
            for path in sorted(class_folder.iterdir())[:count]:
                (folder / split / class_folder.name / path.name).symlink_to(path.resolve())
    return folder


@pytest.fixture(scope="module")
def trained(
    photographs_of_imagenette: Path,
    test_data: Path,
    tmp_path_factory: pytest.TempPathFactory,
    run: Callable,
    run_on_cluster: Callable,
) -> Path:
    """A folder with a dataset, a finished run, and its published model."""
    folder = tmp_path_factory.mktemp("trained")
    names = test_data / "imagenet-meta" / "synset_words.txt"
    packed = run_on_cluster(
        "pipeline", "pack", photographs_of_imagenette, folder / "dataset",
        "--size", 128, "--class-names", names,
    )  # fmt: skip
    assert packed.returncode == 0, packed.stderr
    assert "400 training and 100 validation images" in packed.stdout
    done = run(
        "trainer", "train", "--recipe", "small", "--data", folder / "dataset", "--name", "photos",
        "--workers", 2, "--epochs", 20, "--set", "rate=0.005",
        "--set", "size=128", "--set", "network.crop=112", "--set", "network.width=0.25",
        "--runs", folder / "runs", "--models", folder / "models",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def server(trained: Path) -> Iterator[Server]:
    """A server of the trained model."""
    with serve("--model", trained / "models" / "photos") as server:
        yield server


def test_the_loss_starts_at_the_logarithm_of_the_classes_and_falls(trained: Path) -> None:
    lines = map(
        json.loads, (trained / "runs" / "photos" / "metrics.jsonl").read_text().splitlines()
    )
    losses = {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}
    first = losses[min(losses)]
    assert first == pytest.approx(log(10), abs=0.7)
    assert min(losses.values()) < log(10) - 0.3
    assert losses[max(losses)] < first - 0.3


def test_served_answers_are_the_evaluators(
    trained: Path, server: Server, photographs_of_imagenette: Path, run: Callable
) -> None:
    """All counts equal, image by image the same probabilities as the network's by itself."""
    found = trained / "served.json"
    model = trained / "models" / "photos"
    done = run(
        "trainer", "evaluate", model, "--originals", photographs_of_imagenette, "--json", found
    )
    assert done.returncode == 0, done.stderr
    ((row,),) = [section["rows"] for section in json.loads(found.read_text())["sections"]]

    checkpoint = load(model)
    about, places = checkpoint.about, []
    for photo in sorted((photographs_of_imagenette / "val").glob("*/*")):
        data = photo.read_bytes()
        answer = server.post("/classify", data, params={"top_k": 10}).raise_for_status().json()
        guesses = answer["results"][0]["guesses"]
        image = torch.tensor(whole_image(data, about.size)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            expected = probabilities(checkpoint.model, image, checkpoint.mean_3HW, 10)[0]
        probability = {guess["id"]: guess["probability"] for guess in guesses}
        for label, known in enumerate(about.classes):
            assert probability[known.id] == pytest.approx(expected[label].item(), abs=1e-5)
        places.append([guess["id"] for guess in guesses].index(photo.parent.name))
    (ten,) = [score for score in row["scores"] if score["views"] == 10]
    assert ten["pictures"] == len(places) == 100
    assert ten["top1"] == sum(place == 0 for place in places)
    assert ten["top5"] == sum(place < 5 for place in places)
    assert ten["top1"] >= 20  # a tenth by chance, from four hundred photographs
    assert any("English springer" in guess["label"] for guess in guesses)


def test_the_client_prints_five_labels(
    server: Server, photographs_of_imagenette: Path, run: Callable
) -> None:
    photo = next((photographs_of_imagenette / "val").glob("n02102040/*"))
    done = run("serving", "classify", photo, "--url", server.url)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
    assert done.stdout.count("%") == 5
    refused = run("serving", "classify", ROOT / "Makefile", "--url", server.url)
    assert refused.returncode == 1
    assert "refused with 415: the file is not an image" in refused.stderr


def test_sigterm_ends_the_server_with_status_0(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(timeout=240) == 0
