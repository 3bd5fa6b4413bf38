"""Building an index: whole or not at all, of the right images, and refused in clear words."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import pytest

from alexnet import checkpoint
from alexnet.command import UserError
from alexnet.similar import FOLDER
from pipeline.dataset import Dataset
from serving.neighbours import Neighbours
from tests.serving.conftest import serve
from trainer.commands import _indexed
from trainer.publishing.similar_index import _reserve, build


@pytest.fixture
def bare(indexed: Path, tmp_path: Path) -> Path:
    """The model without its index, alone."""
    shutil.copytree(indexed.parent, tmp_path / "tiny", ignore=shutil.ignore_patterns(FOLDER))
    return tmp_path / "tiny" / indexed.name


@pytest.fixture
def damaged(dataset: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, to be damaged."""
    return shutil.copytree(dataset, tmp_path / "damaged")


def opened(step: Path) -> Neighbours:
    found = Neighbours.open(step, checkpoint.load(step).about)
    assert found is not None
    return found


def stored_features(neighbours: Neighbours) -> np.ndarray:
    """(P, H): what an exact index holds."""
    return neighbours._index.reconstruct_n(0, len(neighbours))


def test_it_says_what_it_was_made_of(indexed: Path) -> None:
    about, ours = checkpoint.load(indexed).about, opened(indexed).about
    assert (ours.pictures, ours.factory) == (len(opened(indexed)), "Flat")
    assert (ours.dataset, ours.weights_sha256) == (about.dataset, about.weights_sha256)


@pytest.mark.parametrize("factory", ["SQfp16", "SQ8", "IVF2,Flat", "IVF2,SQ8"])
def test_other_kinds_of_index_find_an_image_itself(
    indexed: Path, bare: Path, dataset: Path, factory: str
) -> None:
    exact = opened(indexed)
    feature_PH = stored_features(exact)
    build(bare, dataset, factory)
    kind = opened(bare)
    distance_P1, image_P1 = kind.nearest(feature_PH, 1)
    assert image_P1[:, 0].tolist() == list(range(len(kind)))
    exact_P6, _ = exact.nearest(feature_PH, 6)
    assert distance_P1.max() < exact_P6[:, 1].min()


def test_an_index_is_replaced_and_who_has_it_open_keeps_it(bare: Path, dataset: Path) -> None:
    build(bare, dataset)
    old = opened(bare)
    feature_PH, thumbnail = stored_features(old), old.thumbnail(7)
    build(bare, dataset, "SQ8")
    assert opened(bare).about.factory == "SQ8"
    assert old.nearest(feature_PH[7:8], 1)[1].tolist() == [[7]]
    assert old.thumbnail(7) == thumbnail
    assert sorted(path.name for path in bare.iterdir()) == [
        "about.json", "model.safetensors", FOLDER,
    ]  # fmt: skip


KILLED = """
import json, os, signal, sys
from itertools import count
from pathlib import Path
from alexnet.checkpoint import load
from serving.neighbours import Neighbours
from trainer.publishing.similar_index import build

step, dataset, sync = Path(sys.argv[1]), Path(sys.argv[2]), os.fsync
about = load(step).about
for number in (1, 8, 10, 11, 12):
    if not (child := os.fork()):
        calls = count(1)
        def killed(file):
            sync(file)
            if next(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = killed
        build(step, dataset)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    found = Neighbours.open(step, about)
    left = [name for name in os.listdir(step) if name.startswith(".")]
    print(json.dumps([status, found and len(found), left]), flush=True)  # not by a child too
"""


def test_killed_while_building_leaves_nothing_that_is_read(
    bare: Path, indexed: Path, dataset: Path
) -> None:
    """Killed when the first file is on the disk, all but about.json, all of them, the new name, and
    not at all: each builds over what the one before left."""
    words = [sys.executable, "-c", KILLED, bare, dataset]
    done = subprocess.run(words, text=True, capture_output=True, check=True)
    ends = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    total, left = len(opened(indexed)), [".similar.partial"]
    assert ends == [*3 * [[-9, None, left]], [-9, total, left], [0, total, []]]


def test_two_cannot_build_at_once(bare: Path, dataset: Path) -> None:
    directory = os.open(bare, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="another process is building an index there; wait"):
        build(bare, dataset)
    os.close(directory)
    build(bare, dataset)


def changed(**fields: object) -> Callable[[Path], None]:
    def change(dataset: Path) -> None:
        path = dataset / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))

    return change


def cut_short(dataset: Path) -> None:
    with (dataset / "train" / "00000.tar").open("r+b") as file:
        file.truncate(20_000)


def one_label_less(dataset: Path) -> None:
    path = dataset / "train" / "index.npy"
    np.save(path, np.load(path)[:-1])


def a_broken_image(dataset: Path) -> None:
    break_images(dataset, 5)


CLASSES = [{"id": name, "name": name} for name in ("bird", "fish", "toad")]


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda d: (d / "manifest.json").unlink(), "No such file .*`alexnet pack SOURCE"),
        (lambda d: (d / "manifest.json").write_text("{}"), "size is missing; pack the"),
        (changed(version=7), "has version 7, but this program reads version 1; pack"),
        (changed(original=True), "lists photographs that were not packed; pack"),
        (
            changed(size=96),
            "96 x 96 pixels, but the model tiny takes 128 x 128; pack .* --size 128",
        ),
        (
            changed(classes=CLASSES),
            "its 3 classes are not the 3 classes of the model tiny .they differ in b",
        ),
        (changed(classes=CLASSES[:2]), "its 2 classes are not the 3 classes of the model tiny"),
        (
            cut_short,
            "00000.tar: the file has 20,000 bytes, but the manifest says .*; copy it again",
        ),
        (lambda d: (d / "train" / "00000.tar").unlink(), "00000.tar: No such file .* copy the"),
        (lambda d: (d / "train" / "index.npy").unlink(), "index.npy: No such file .* copy the"),
        (lambda d: (d / "train" / "index.npy").write_bytes(b"no"), "index.npy: .* copy the"),
        (one_label_less, r"index.npy: the file lists \d+ images, but the manifest says \d+; copy"),
        (
            a_broken_image,
            r"00000.tar, at byte \d+ .image 5.: the file is not an image .*JPEG.; .*copy the data",
        ),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(
    bare: Path, damaged: Path, damage: Callable[[Path], None], text: str
) -> None:
    damage(damaged)
    with pytest.raises(UserError, match=text):
        build(bare, damaged)
    assert sorted(path.name for path in bare.iterdir()) == ["about.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("Cloud9", "^--factory Cloud9: could not parse index string Cloud9; see `alexnet index -"),
        (
            "IVF4096,Flat",
            "--factory IVF4096,Flat: its 4,096 lists need 39 images each, 159,744, but there are "
            "108 to learn them from; give at most 2, or Flat, which needs none",
        ),
        ("IVF3,SQ8", "--factory IVF3,SQ8: its 3 lists need 39 images each, 117, but there are 108"),
        ("PQ10", "--factory PQ10: its 256 codes of a product quantizer need 39 images each, 9,984"),
        ("IVF2,PQ10", "its 256 codes of a product quantizer need"),
        ("PCA16,PQ8", "its 256 codes of a product quantizer need"),
        ("PCA16,IVF4,Flat", "its 4 lists need 39 images each, 156, but there are 108"),
        ("IDMap,Flat", "--factory IDMap,Flat: add does not make sense .*; see `alexnet ind"),
    ],
)
def test_an_index_that_faiss_cannot_make_is_refused(
    bare: Path, dataset: Path, factory: str, text: str
) -> None:
    with pytest.raises(UserError, match=text):
        build(bare, dataset, factory)
    assert Neighbours.open(bare, checkpoint.load(bare).about) is None


def test_memory_is_reserved_for_all_vectors_at_once() -> None:
    index = faiss.index_factory(8, "Flat")
    _reserve(index, 1000)
    place = int(index.codes.owned_data.data())
    for _ in range(1000):
        index.add(np.ones((1, 8), np.float32))
    assert int(index.codes.owned_data.data()) == place


def test_a_server_finds_a_training_image_itself(bare: Path, dataset: Path, run: Callable) -> None:
    """Built by the command and asked over HTTP: a process each."""
    done = run("trainer", "index", bare.parent, "--data", dataset)
    assert done.returncode == 0, done.stderr
    train = Dataset(dataset).train
    with serve("--model", bare.parent) as server:
        for number in (0, 41, len(train) - 1):
            answer = server.post("/similar", train.jpeg(number).tobytes()).raise_for_status().json()
            itself, other, *_ = answer["neighbours"]
            assert itself["thumbnail"] == f"/thumbnails/{number}"
            assert itself["distance"] < 1e-3 * other["distance"]


def test_a_model_whose_index_fails_stays_published(
    bare: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """What `train --index` does once it has published."""
    assert _indexed(bare, tmp_path / "gone", "replace") == 2
    said = capfd.readouterr()
    assert f"python -m trainer index: {tmp_path}/gone/manifest.json: No such file" in said.err
    command = f"alexnet index {bare} --data {tmp_path}/gone --damage replace"
    assert f"{bare} is published, but without an index; to build it: {command}" in said.out
    assert checkpoint.load(bare.parent).about.name == "tiny"


def break_images(dataset: Path, *numbers: int) -> None:
    rows = np.load(dataset / "train" / "index.npy")
    with (dataset / "train" / "00000.tar").open("r+b") as file:
        for number in numbers:
            _, size, offset, _ = rows[number].tolist()
            file.seek(offset)
            file.write(b"\0" * size)


@pytest.mark.parametrize("broken", [(5,), (0, 107), (63, 64, 65), (1, 2, 70, 71, 72)])
def test_damaged_images_are_left_out_and_counted(
    indexed: Path, bare: Path, damaged: Path, broken: tuple[int, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The others keep their order, features, labels and thumbnails."""
    whole = opened(indexed)
    break_images(damaged, *broken)
    build(bare, damaged, damage="replace")
    said = capsys.readouterr().err
    assert f"warning: {len(broken)} of 108 images cannot be decoded and are left out; the" in said
    assert f"(image {broken[0]})" in said
    kept, ours = [n for n in range(108) if n not in broken], opened(bare)
    assert (len(ours), ours.about.pictures) == (len(kept), len(kept))
    np.testing.assert_allclose(
        stored_features(ours), stored_features(whole)[kept], rtol=1e-4, atol=1e-4
    )
    for number, before in enumerate(kept):
        assert ours.label(number) == whole.label(before)
        assert ours.thumbnail(number) == whole.thumbnail(before)


def test_too_many_damaged_images_are_no_index(bare: Path, damaged: Path) -> None:
    break_images(damaged, *range(6))
    with pytest.raises(
        UserError, match=r"\(image 5\): .*; so are 5 others of 108, too many to leav"
    ):
        build(bare, damaged, damage="replace")
    with pytest.raises(UserError, match=r"\(image 0\): .* or leave it out with --damage replace"):
        build(bare, damaged)
    assert not (bare / FOLDER).exists()


def test_photographs_that_are_not_packed_are_refused_before_training(
    photographs: Path, tmp_path: Path, run: Callable
) -> None:
    done = run(
        "trainer", "train", "--data", photographs, "--name", "r", "--index",
        "--runs", tmp_path / "runs", "--models", tmp_path / "models",
    )  # fmt: skip
    assert done.returncode == 2
    assert f"--index needs a packed dataset; pack {photographs}: `alexnet pack " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not done.stdout  # such as the progress of the mean
    assert not (tmp_path / "runs").exists()


def test_the_command(
    bare: Path, damaged: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    changed(quarantined=1)(damaged)
    done = run("trainer", "index", bare.parent, "--data", damaged, "--factory", "SQfp16")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(bare / FOLDER)
    total = len(opened(bare))
    assert f"index: {total} of {total} images" in done.stdout
    assert "warning: tiny was trained on " in done.stderr
