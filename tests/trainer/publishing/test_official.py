"""The word `torchvision`, of a file of the same layout from a server of our own."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from alexnet.cache import cache_folder
from alexnet.checkpoint import load
from alexnet.command import UserError
from tests.pipeline.sources.file_server import (
    Server,
    half_and_a_reset,
    half_of_the_rest,
    rest,
    running,
    status,
    whole,
    zeros,
)
from trainer.publishing.imports import LAYERS
from trainer.publishing.official import CLASSES, FILE, VARIABLE, publish_official

SHAPES = {
    "conv1": (64, 3, 11, 11), "conv2": (192, 64, 5, 5), "conv3": (384, 192, 3, 3),
    "conv4": (256, 384, 3, 3), "conv5": (256, 256, 3, 3),
    "fc6": (4096, 9216), "fc7": (4096, 4096), "fc8": (1000, 4096),
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A state dict that answers with the last class, whatever it sees. A file of a few KB: all
    weights of a layer are one number's."""
    state = {}
    for layer, shape in SHAPES.items():
        state[f"{LAYERS[layer]}.weight"] = torch.zeros(1).expand(shape)
        state[f"{LAYERS[layer]}.bias"] = torch.zeros(shape[0])
    state["classifier.6.bias"][-1] = 9
    path = tmp_path_factory.mktemp("official") / "weights.pth"
    torch.save(state, path)
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(VARIABLE, raising=False)
    return cache_folder()


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def test_the_file_is_what_its_name_says() -> None:
    """As torch.hub checks it: the name ends with the first digits of the SHA-256."""
    stem = FILE.url.removesuffix(".pth")
    assert FILE.sha256.startswith(stem.rpartition("-")[2])
    assert len(FILE.sha256) == 64
    assert FILE.size == 4 * 61_100_840 + 5_551  # the tensors, and how torch.save wraps them


def test_the_names_are_imagenets(test_data: Path) -> None:
    theirs = test_data / "imagenet-meta" / "synset_words.txt"
    assert CLASSES.read_text().splitlines() == theirs.read_text().splitlines()


@pytest.mark.slow
def test_the_word_is_a_model_with_imagenets_classes_after_two_broken_connections(
    server: Server, tmp_path: Path, cache: Path, weights: bytes
) -> None:
    server.content, server.answers = weights, [half_and_a_reset, half_of_the_rest, rest]
    done = publish_official("torchvision", None, tmp_path, server.remote)
    assert done == (tmp_path / "torchvision" / "00000000", True)
    assert len(server.ranges) == 3
    model, mean_3HW, about, _ = load(tmp_path / "torchvision")
    assert len(about.classes) == 1000
    assert about.classes[0].id == "n01440764"
    assert about.classes[0].name == "tench, Tinca tinca"
    assert about.recipe["sha256"] == hashlib.sha256(weights).hexdigest()
    with torch.no_grad():
        best = model.eval()(torch.zeros(1, *mean_3HW.shape)).argmax().item()
    assert about.classes[best].name == "toilet tissue, toilet paper, bathroom tissue"
    # It is there, and the file is: nothing is asked for again.
    assert publish_official("torchvision", None, tmp_path, server.remote).new is False
    (tmp_path / "torchvision" / "current.json").unlink()  # as of a process that was ended then
    assert publish_official("torchvision", None, tmp_path, server.remote).new is True
    assert len(server.ranges) == 3
    about_file = done.directory / "about.json"
    about_file.write_text(about_file.read_text().replace(about.recipe["sha256"], 64 * "0"))
    with pytest.raises(UserError, match="model of this name is not torchvision's; move it away"):
        publish_official("torchvision", None, tmp_path, server.remote)


def test_other_bytes_are_refused_and_not_kept(
    server: Server, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a mirror, where the file is that of the official address."""
    server.answers = [zeros]
    monkeypatch.setenv(VARIABLE, server.url)
    file = server.remote._replace(url="https://download.pytorch.org/models/x.pth")
    with pytest.raises(UserError, match=rf"^{server.url}: the SHA-256 is .* not {file.sha256}"):
        publish_official("torchvision", None, tmp_path / "models", file)
    assert [path.name for path in cache.iterdir()] == ["x.pth.lock"]
    assert not (tmp_path / "models").exists()


def test_without_the_file_one_line_says_where_to_put_it(
    server: Server, tmp_path: Path, cache: Path
) -> None:
    server.answers = [status(404)]
    with pytest.raises(UserError, match="HTTP Error 404") as caught:
        publish_official("torchvision", None, tmp_path, server.remote)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(server.url)
    place = f"at {cache / 'x.tgz'}, with the SHA-256 {server.remote.sha256}"
    assert f"put a copy from elsewhere {place}" in said


@pytest.mark.slow
def test_two_processes_at_once_publish_it_once(
    server: Server, tmp_path: Path, weights: bytes
) -> None:
    """From a server that knows no ranges."""
    server.content, server.answers = weights, [half_of_the_rest, whole]
    code = (
        "import sys; from alexnet.console import run; from trainer.arguments import COMMANDS\n"
        "from trainer.publishing.official import Remote, publish_official\n"
        f"publish_official.__defaults__ = (Remote(*{tuple(server.remote)!r}),)\n"
        "words = ['import', 'torchvision', '--models', sys.argv[1]]\n"
        "sys.exit(run('alexnet', COMMANDS, arguments=words))"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = sorted(process.communicate()[0].splitlines()[-1] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert said[0].startswith(f"already published: {tmp_path}/torchvision/00000000; to serve it")
    assert said[1].startswith(f"published {tmp_path}/torchvision/00000000; to serve it")
    assert len(server.ranges) == 2
