"""Models as a stranger may publish them: none takes the place of one that answers."""

import asyncio
import hashlib
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from alexnet import checkpoint
from alexnet.command import UserError
from alexnet.similar import FOLDER
from serving.models import Models, Served
from serving.neighbours import Neighbours
from tests.serving.conftest import Server, publish, serve, wait_for
from tests.serving.test_reload import describe, failed, point, replace, served

EARLIER = Path(__file__).parents[1] / "earlier" / "published" / "tiny" / "00000048"
WEIGHTS, ABOUT = "model.safetensors", "about.json"


@pytest.fixture
def step(tmp_path: Path) -> Path:
    """A model of seven classes."""
    return checkpoint.current(publish(tmp_path))


def with_class(**changed: object) -> Callable[[Path], None]:
    """The last class is another."""

    def change(step: Path) -> None:
        classes = json.loads((step / ABOUT).read_text())["classes"]
        describe(step, classes=[*classes[:-1], classes[-1] | changed])

    return change


def with_network(**changed: object) -> Callable[[Path], None]:
    def change(step: Path) -> None:
        describe(step, network=json.loads((step / ABOUT).read_text())["network"] | changed)

    return change


def with_field(**changed: object) -> Callable[[Path], None]:
    return lambda step: describe(step, **changed)


def with_text(old: str, new: str) -> Callable[[Path], None]:
    def change(step: Path) -> None:
        text = (step / ABOUT).read_text()
        assert old in text
        (step / ABOUT).write_text(text.replace(old, new, 1))

    return change


def with_tensor(name: str, tensor: torch.Tensor | None) -> Callable[[Path], None]:
    def change(step: Path) -> None:
        tensors = load_tensors((step / WEIGHTS).read_bytes())
        tensors.pop(name, None)
        replace(step, save_tensors(tensors if tensor is None else tensors | {name: tensor}))

    return change


def instead(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(step: Path) -> None:
        (step / name).unlink()
        make(step / name)

    return change


def sparse(size: int) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


def fewer_classes(step: Path) -> None:
    describe(step, classes=json.loads((step / ABOUT).read_text())["classes"][:-1])


def golden(labels: list[int], probabilities: list[float]) -> Callable[[Path], None]:
    return with_field(golden={"labels": labels, "probabilities": probabilities})


def with_threshold(**changed: object) -> dict[str, object]:
    return {"min_probability": 0.6, "target": 0.9, "answered": 10, "right": 9} | changed


def calibrated(**changed: object) -> Callable[[Path], None]:
    errors = {"ece": 0.1, "nll": 1.0}
    known = {
        "temperature": 1.5, "views": 10, "dataset": "d" * 64, "pictures": 20, "before": errors,
        "after": errors,
    }  # fmt: skip
    return with_field(calibrations=[known | changed])


def calibrated_twice(step: Path) -> None:
    calibrated()(step)
    describe(step, calibrations=2 * json.loads((step / ABOUT).read_text())["calibrations"])


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


FOREIGN = [
    (fewer_classes, "it names 6 classes, but its network has 7"),
    (with_class(id="n0"), "two of its classes have the same id"),
    (with_class(name="a\r\nX-Evil: 1"), "it contains the control character U+000D"),
    (with_class(id="a\nb"), "it contains the control character U+000A"),
    (with_class(name="\u2028"), "it contains the control character U+2028"),
    (with_class(name="x" * 10_000), "512"),
    (with_field(name="tiny\r\nSet-Cookie: a=b"), "it contains the control character U+000D"),
    (with_field(name="x" * 10_000), "512"),
    (with_field(name=""), "name is "),
    (with_field(size=6000), "size is 6000: expected at most 1024"),
    (with_field(size=10**30), "size is 1"),
    (with_field(size=64, network={"classes": 7, "width": 0.1, "crop": 72}), "cannot be cut"),
    (with_field(step=10**20), "step is 1"),
    (with_field(accuracy=[{"views": 1, "pictures": 5, "top1": 6, "top5": 6}]), "cannot be"),
    (with_field(versions={"torch": "2\n3"}), "it contains the control character U+000A"),
    (golden([0, 1], [0.5]), "golden has 1 probabilities for 2 labels"),
    (golden([7], [0.5]), "its golden answer has the label 7"),
    (golden([0], [2.0]), "golden.probabilities.0 is 2.0: expected at most"),
    (golden([0, 0], [0.5, 0.5]), "golden has 2 probabilities for 1 labels"),
    (calibrated(temperature=0.0), "calibrations.0.temperature is 0.0: expected at least 0.05"),
    (
        calibrated(temperature=1e9),
        "calibrations.0.temperature is 1000000000.0: expected at most 20",
    ),
    (calibrated(temperature="hot"), "calibrations.0.temperature is hot"),
    (calibrated(views=5), "calibrations.0.views is 5"),
    (calibrated(dataset="a\nb"), "it contains the control character U+000A"),
    (
        calibrated(after={"ece": -1, "nll": 1}),
        "calibrations.0.after.ece is -1: expected at least 0",
    ),
    (calibrated(threshold=with_threshold(answered=21)), "21 are answered, and 9 of these are"),
    (calibrated(threshold=with_threshold(right=11)), "10 are answered, and 11 of these are right"),
    (calibrated(threshold=with_threshold(min_probability=1.5)), "expected at most 1"),
    (calibrated(more=1), "calibrations.0.more"),
    (with_text('"calibrations": []', '"calibrations": [{"temperature": NaN}]'), "finite number"),
    (calibrated_twice, "two of its calibrations are for the same number of views"),
    (with_text('"step": ', '"step": 1, "step": '), "the key 'step' is given twice"),
    (with_text('"recipe": {}', '"recipe": {"rate": NaN}'), "NaN is not a finite number"),
    (with_text('"recipe": {}', '"recipe": {"rate": 1e999}'), "1e999 is not a finite number"),
    (with_text('"recipe": {}', f'"recipe": {{"a": {"[" * 1000}{"]" * 1000}}}'), "recursion limit"),
    (instead(ABOUT, lambda path: path.write_text("[" * 10**6)), "recursion limit"),
    (instead(ABOUT, sparse(10**11)), "it has 100,000,000,000 bytes; the limit is 4,194,304"),
    (instead(ABOUT, os.mkfifo), "this is a pipe, socket or device, not a regular file"),
    (instead(ABOUT, Path.mkdir), "this is a directory, not a regular file"),
    (with_network(width=4, classes=100_000), "it names 7 classes, but its network has 100000"),
    (with_network(kernels=[4096] * 5, width=4), "of memory, and"),
    (with_network(kernels=[0] * 5), "network.kernels.0 is 0: expected at least 1"),
    (with_network(width=0.2), "should be float32 of the shape"),
    (with_network(sixth_conv=True), "the tensor 'conv6.bias' is missing"),
    (with_tensor("fc8.bias", torch.zeros(6)), "fc8.bias should be float32 of the shape (7,)"),
    (with_tensor("fc8.bias", torch.zeros(7).double()), "but is float64 of (7,)"),
    (with_tensor("fc8.bias", torch.full((7,), torch.inf)), "numbers that are not finite"),
    (with_tensor("mean_3HW", torch.full((3, 64, 64), torch.nan)), "numbers that are not finite"),
    (with_tensor("mean_3HW", torch.zeros(3, 64, 65)), "mean_3HW should be float32 of the shape"),
    (with_tensor("mean_3HW", None), "the tensor 'mean_3HW' is missing"),
    (with_tensor("more", torch.zeros(1)), "the tensor 'more' is unknown"),
    (lambda step: replace(step, b"\xff" * 100), "this is not a safetensors file"),
    (lambda step: replace(step, b""), "this is not a safetensors file"),
    (instead(WEIGHTS, sparse(10**11)), "it has 100,000,000,000 bytes; the limit is"),
    (instead(WEIGHTS, os.mkfifo), "this is a pipe, socket or device, not a regular file"),
    (instead(WEIGHTS, lambda path: path.symlink_to("/dev/zero")), "a pipe, socket or device"),
    (instead(WEIGHTS, link_to_itself), "Too many levels of symbolic links"),
    (with_tensor("fc8.weight", torch.full((7, 410), 1e38)), "not finite"),
]


def failure(step: Path) -> str:
    """Why a model that could answer keeps the place of this one."""

    async def look() -> str:
        models = Models((step,))
        await models.look()
        assert models.served is None
        return str(models.failed)

    return asyncio.run(look())


@pytest.mark.parametrize(("damage", "reason"), FOREIGN)
def test_what_does_not_fit_is_refused_in_one_line(
    step: Path, damage: Callable, reason: str
) -> None:
    """With the file, and what to do."""
    damage(step)
    found = failure(step)
    assert reason in found
    assert found.isprintable()
    assert "publish" in found
    assert len(found) < 600


@pytest.mark.parametrize(
    "pointer",
    [
        {"directory": "/etc"},
        {"directory": ".."},
        {"directory": "."},
        {"directory": ""},
        {"directory": "a/b"},
        {"directory": "a\nb"},
        {"directory": "x" * 10**7},
        {"directory": 5},
        {"directory": None},
        {},
        [],
        "00000012",
    ],
)
def test_a_pointer_leads_to_a_folder_beside_it_alone(step: Path, pointer: JsonValue) -> None:
    (step.parent / "current.json").write_text(json.dumps(pointer))
    found = failure(step.parent)
    assert "current.json: " in found
    assert found.isprintable()
    assert len(found) < 600


def test_a_volume_of_links_is_a_model(step: Path) -> None:
    """As Kubernetes and OCI mount them: a step behind a link, of links to files."""
    (step / "..data").mkdir()
    for name in (WEIGHTS, ABOUT):
        (step / name).rename(step / "..data" / name)
        (step / name).symlink_to(Path("..data") / name)
    step.rename(step.with_name("real"))
    step.symlink_to("real")
    assert checkpoint.load(step.parent).about.name == "tiny"


def leaves(value: JsonValue, place: tuple = ()) -> Iterator[tuple]:
    """Where each value stands."""
    yield place
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, below in inner:
            yield from leaves(below, (*place, key))


ODD = st.sampled_from(
    [None, True, -1, 0, 1, 2**31, 10**18, 0.5, -1e300, "", "a", "\r\n", "\x00", "x" * 9999, [], {}]
)


@settings(max_examples=150)
@given(data=st.data())
def test_whatever_one_value_becomes_the_model_loads_whole_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    about = json.loads((EARLIER / ABOUT).read_text())
    place = data.draw(st.sampled_from([place for place in leaves(about) if place]))
    parent = about
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = data.draw(ODD)
    step = tmp_path_factory.getbasetemp() / "odd"
    step.mkdir(exist_ok=True)
    (step / ABOUT).write_text(json.dumps(about))
    shutil.copy(EARLIER / WEIGHTS, step)
    try:
        model = Served.load((step,))
    except UserError:
        return
    assert model.name.name.isprintable()
    assert len(model.predictor.about.classes) == 3


def of_index(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Another file of the index, with its digest."""

    def damage(step: Path) -> None:
        path = step / FOLDER / name
        path.write_bytes(change(path.read_bytes()))
        sha256 = json.loads((step / FOLDER / ABOUT).read_text())["sha256"]
        sha256[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        describe(step / FOLDER, sha256=sha256)

    return damage


def array(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        file = BytesIO()
        np.save(file, change(np.load(BytesIO(data))))
        return file.getvalue()

    return changed


INDEX = [
    (of_index("index.faiss", lambda data: data[:20]), "index.faiss: the file is cut short"),
    (of_index("index.faiss", lambda data: data[:-100]), "index.faiss: FAISS"),
    (
        of_index("index.faiss", lambda data: data[:4] + struct.pack("<i", 9) + data[8:]),
        "the index says that it has 30 vectors of 9 units; it should have 30 of 246",
    ),
    (
        of_index("index.faiss", lambda data: data[:8] + struct.pack("<q", 10**9) + data[16:]),
        "the index says that it has 1,000,000,000 vectors",
    ),
    (
        of_index("index.faiss", lambda data: data[:37] + struct.pack("<q", 2**39) + data[45:]),
        "index.faiss: FAISS",
    ),
    (of_index("labels.npy", array(lambda label_P: label_P + 2)), "there are labels from 2 to 4"),
    (of_index("labels.npy", array(lambda label_P: label_P[:-1])), "it should hold 30 numbers"),
    (of_index("labels.npy", array(np.float64)), "holds float64"),
    (of_index("labels.npy", lambda _: b"PK\x03\x04"), "this is no .npy file"),
    (of_index("labels.npy", lambda data: data + bytes(10**6)), "this is no .npy file"),
    (of_index("thumbnails.npy", array(lambda offset_P: offset_P[::-1])), "do not divide"),
    (of_index("thumbnails.npy", array(lambda offset_P: offset_P * 2)), "do not divide"),
    (of_index("thumbnails", lambda data: data[:-1]), "do not divide"),
    (lambda step: describe(step / FOLDER, pictures=31), "30 vectors of 246 units; it should have"),
    (lambda step: describe(step / FOLDER, pictures=10**12), "pictures is 1"),
    (lambda step: describe(step / FOLDER, factory="a\nb"), "control character U+000A"),
    (lambda step: describe(step / FOLDER, sha256={}), "the file is damaged"),
]


@pytest.mark.parametrize(("damage", "reason"), INDEX)
def test_an_index_that_does_not_fit_its_model_is_refused(
    tmp_path: Path, damage: Callable, reason: str
) -> None:
    step = shutil.copytree(EARLIER, tmp_path / "step")
    damage(step)
    with pytest.raises(UserError, match=r"build the index again") as refused:
        Neighbours.open(step, checkpoint.read_about(step))
    assert reason in str(refused.value)


@pytest.mark.parametrize("value", [np.inf, np.nan, 3e38])
def test_a_vector_that_is_none_is_never_found(tmp_path: Path, value: float) -> None:
    step = shutil.copytree(EARLIER, tmp_path / "step")
    last = np.full(246, value, np.float32).tobytes()
    of_index("index.faiss", lambda data: data[: -len(last)] + last)(step)
    neighbours = Neighbours.open(step, checkpoint.read_about(step))
    assert neighbours is not None
    distance_1k, number_1k = neighbours.nearest(np.zeros((1, 246), np.float32), 50)
    assert sorted(number_1k[0, :29].tolist()) == list(range(29))
    assert np.isfinite(distance_1k[0, :29]).all()
    assert number_1k[0, 29] == -1


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (fewer_classes, "it names 6 classes"),
        (with_class(name="a\r\nX-Evil: 1"), "control character"),
        (instead(ABOUT, os.mkfifo), "a pipe, socket or device"),
        (instead(WEIGHTS, os.mkfifo), "a pipe, socket or device"),
        (with_field(size=6000), "expected at most 1024"),
    ],
)
def test_the_model_that_answers_goes_on(
    hardy: Server, published: Path, jpeg: bytes, damage: Callable, reason: str
) -> None:
    """And the server, which waits for nothing, also where a named pipe lies in a file's place."""
    good, before = checkpoint.current(published), served(hardy)
    shutil.copytree(good, published / "foreign")
    damage(published / "foreign")
    point(published, "foreign")
    wait_for(lambda: reason in (failed(hardy) or ""))
    answer = hardy.post("/classify", jpeg).raise_for_status()
    assert answer.json()["model"]["sha256"] == before
    assert hardy.client.get("/livez").is_success
    point(published, good.name)
    wait_for(lambda: failed(hardy) is None)
    shutil.rmtree(published / "foreign")


def test_an_index_whose_files_are_cut_while_it_serves_answers_on(
    tmp_path: Path, jpeg: bytes
) -> None:
    step = shutil.copytree(EARLIER, tmp_path / "step")
    with serve("--model", step) as server:
        before = server.post("/similar", jpeg).raise_for_status().json()["neighbours"]
        for path in (step / FOLDER).iterdir():
            if path.name != ABOUT:
                path.write_bytes(b"")
        assert server.post("/similar", jpeg).raise_for_status().json()["neighbours"] == before
        thumbnail = server.client.get(before[0]["thumbnail"]).raise_for_status().content
        assert thumbnail.startswith(b"\xff\xd8")
