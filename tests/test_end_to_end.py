"""The main job on real photographs, through real processes: pack, train, serve, ask over HTTP."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from math import log
from pathlib import Path

import httpx2 as httpx
import pytest
import torch

from alexnet.checkpoint import load
from alexnet.pixels import whole_picture
from serving.predictor import Predictor
from tests.conftest import ROOT

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
) -> Path:
    """A folder with a dataset, a finished run, and its published model."""
    folder = tmp_path_factory.mktemp("trained")
    names = test_data / "imagenet-meta" / "synset_words.txt"
    packed = run(
        "pipeline", "pack", photographs_of_imagenette, folder / "dataset",
        "--size", 128, "--class-names", names,
    )  # fmt: skip
    assert packed.returncode == 0, packed.stderr
    assert "400 training and 100 validation pictures" in packed.stdout
    done = run(
        "trainer", "train", "--recipe", "small", "--data", folder / "dataset", "--name", "photos",
        "--workers", 2, "--epochs", 20, "--set", "rate=0.005",
        "--set", "size=128", "--set", "network.crop=112",
        "--runs", folder / "runs", "--models", folder / "models",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def server(trained: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """(URL, process) of a server of the trained model."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", "--model", trained / "models" / "photos"],
        cwd=ROOT,
        env=os.environ | {"SERVING_PORT": str(port)},
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz").is_success:
                break
        except httpx.HTTPError:
            time.sleep(0.1)
    yield url, process
    process.kill()
    process.wait()


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
    trained: Path, server: tuple[str, subprocess.Popen], photographs_of_imagenette: Path
) -> None:
    url, _ = server
    predictor = Predictor(load(trained / "models" / "photos"))
    classes = predictor.about.classes
    right = 0
    photos = sorted((photographs_of_imagenette / "val").glob("*/*"))
    assert len(photos) == 100
    for photo in photos:
        data = photo.read_bytes()
        answer = httpx.post(f"{url}/classify", files={"file": data}).raise_for_status().json()
        picture = torch.tensor(whole_picture(data, predictor.about.size)).permute(2, 0, 1)[None]
        expected = predictor(picture, views=10)[0]
        assert [guess["id"] for guess in answer["guesses"]] == [
            classes[label].id for label in expected.topk(5).indices.tolist()
        ]
        for guess, probability in zip(
            answer["guesses"], expected.topk(5).values.tolist(), strict=True
        ):
            assert guess["probability"] == pytest.approx(probability, abs=1e-5)
        right += answer["guesses"][0]["id"] == photo.parent.name
    assert answer["guesses"][0]["label"] in {label.name for label in classes}
    assert any("English springer" in label.name for label in classes)
    assert right >= 20  # a tenth by chance, from four hundred photographs


def test_served_accuracy_is_the_one_in_the_model(
    trained: Path, server: tuple[str, subprocess.Popen], photographs_of_imagenette: Path
) -> None:
    """The evaluator sees the packed pictures, the server the originals: a JPEG's worth apart."""
    ten = load(trained / "models" / "photos").about.accuracy[1]
    right = sum(
        httpx.post(f"{server[0]}/classify", files={"file": photo.read_bytes()}).json()["guesses"][
            0
        ]["id"]
        == photo.parent.name
        for photo in (photographs_of_imagenette / "val").glob("*/*")
    )
    assert ten.pictures == 100
    assert abs(right - ten.top1) <= 5


def test_hostile_files_never_make_a_5xx(
    server: tuple[str, subprocess.Popen], test_data: Path
) -> None:
    statuses = set()
    for path in sorted((test_data / "nasty-images").iterdir())[::6]:
        with path.open("rb") as file:
            statuses.add(httpx.post(f"{server[0]}/classify", files={"file": file}).status_code)
    assert statuses <= {200, 400, 413, 415}
    assert 200 in statuses


def test_the_client_prints_five_labels(
    server: tuple[str, subprocess.Popen], photographs_of_imagenette: Path, run: Callable
) -> None:
    photo = next((photographs_of_imagenette / "val").glob("n02102040/*"))
    done = run("serving", "classify", photo, "--url", server[0])
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 6
    assert done.stdout.count("%") == 5
    refused = run("serving", "classify", ROOT / "Makefile", "--url", server[0])
    assert refused.returncode == 2
    assert "refused with 415: not a picture" in refused.stderr


def test_sigterm_ends_the_server_with_status_0(server: tuple[str, subprocess.Popen]) -> None:
    _, process = server
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
