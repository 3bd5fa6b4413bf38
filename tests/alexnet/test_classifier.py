"""The library's answers: the same for a photograph however it is given, alone or among others."""

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import alexnet
from alexnet.classifier import Classifier, PhotographError
from alexnet.command import UserError
from alexnet.predictor import BATCH_VIEWS
from tests.serving.conftest import publish


@pytest.fixture(scope="module")
def classifier(model: Path) -> Classifier:
    return alexnet.load(model)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """More than one forward pass takes, no two alike."""
    folder, random = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    paths = [folder / f"{number:02d}.png" for number in range(BATCH_VIEWS["cpu"] // 10 + 3)]
    for path in paths:
        small = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        small.resize((120, 90)).save(path)
    return paths


def test_several_are_each_by_itself_in_their_order(
    classifier: Classifier, photographs: list[Path]
) -> None:
    for views in (1, 10):
        together = classifier(photographs, views=views)
        assert len(together) == len(photographs)
        for path, answer in zip(photographs, together, strict=True):
            alone = classifier(path, views=views)
            assert [g.id for g in answer] == [g.id for g in alone]
            for one, other in zip(answer, alone, strict=True):
                assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_a_photograph_is_the_same_in_every_form(
    classifier: Classifier, photographs: list[Path]
) -> None:
    path = photographs[0]
    image = Image.open(path)
    pixels = np.asarray(image)
    forms = [path, str(path), path.read_bytes(), image, image, pixels, pixels[:, ::-1][:, ::-1]]
    expected = classifier.inputs(path)
    assert torch.equal(classifier.inputs(iter(forms)), expected.expand(len(forms), -1, -1, -1))


def test_grey_and_transparent_arrays_are_the_images_that_pillow_makes_of_them(
    classifier: Classifier,
) -> None:
    random = np.random.default_rng(1)
    for shape in ((80, 90), (80, 90, 4)):
        pixels = random.integers(0, 256, shape, np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        assert torch.equal(classifier.inputs(pixels), classifier.inputs(file.getvalue())), shape


def test_an_opened_image_stays_as_it_is(classifier: Classifier) -> None:
    """Although a JPEG's file is decoded at a fraction of its size."""
    file = io.BytesIO()
    Image.effect_noise((900, 700), 60).convert("RGB").save(file, "JPEG")
    opened = Image.open(file)
    of_opened, of_file = classifier.probabilities(opened), classifier.probabilities(file.getvalue())
    assert opened.size == (900, 700)
    assert np.array_equal(opened, Image.open(file))
    torch.testing.assert_close(of_opened, of_file, rtol=0, atol=0.02)


def test_the_frames_of_a_film_are_told_apart(classifier: Classifier) -> None:
    """Pillow shows one frame after the other in the same object."""
    first, *others = [Image.new("RGB", (70, 70), colour) for colour in ("red", "green", "blue")]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=others)
    found = classifier.probabilities(ImageSequence.Iterator(Image.open(file)))
    expected = classifier.probabilities([first, *others])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3)
    assert len(found.round(decimals=4).unique(dim=0)) == 3


def test_no_photographs_are_no_answers(classifier: Classifier) -> None:
    assert classifier([]) == []
    assert classifier.probabilities([]).shape == (0, 7)
    assert classifier.features([]).shape == (0, classifier.network.fc7.out_features)
    assert classifier.inputs(()).shape == (0, 3, 64, 64)


def test_any_number_is_read_a_few_at_a_time(
    classifier: Classifier, photographs: list[Path]
) -> None:
    read = 0

    def endless() -> Iterator[Path]:
        nonlocal read
        while True:
            read += 1
            yield photographs[0]

    images = classifier._images(endless(), views=10)
    for batch in range(1, 4):
        assert len(next(images)) == BATCH_VIEWS["cpu"] // 10
        assert read == batch * BATCH_VIEWS["cpu"] // 10


def test_features_and_network_are_those_of_the_centre_view(
    classifier: Classifier, photographs: list[Path]
) -> None:
    inputs, features = classifier.inputs(photographs), classifier.features(photographs)
    assert inputs.shape == (len(photographs), *classifier.mean.shape)
    torch.testing.assert_close(features, classifier.network.features(inputs), rtol=1e-4, atol=1e-5)
    logits = classifier.network(inputs)
    found = classifier.probabilities(photographs, views=1)
    torch.testing.assert_close(found, logits.softmax(1), rtol=1e-4, atol=1e-5)


def test_what_comes_out_can_be_learnt_from(classifier: Classifier, photographs: list[Path]) -> None:
    """A linear classifier on the features, and a gradient down to the pixels."""
    features = classifier.features(photographs)
    probe = torch.nn.Linear(features.shape[1], 2)
    probe(features).sum().backward()
    assert probe.weight.grad is not None
    inputs = classifier.inputs(photographs[0]).requires_grad_()
    classifier.network(inputs)[0, 0].backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().max() > 0


def test_no_guess_is_given_where_the_best_is_too_improbable(
    classifier: Classifier, photographs: list[Path]
) -> None:
    plain = classifier(photographs[0])
    best = plain[0].probability
    assert classifier(photographs[0], min_probability=best) == plain
    assert classifier(photographs[:1], min_probability=min(1, best + 1e-12)) == [[]]
    assert (classifier.calibrated, classifier.min_probability()) == ((), None)


def test_top_k_and_the_ids_are_the_models(classifier: Classifier, photographs: list[Path]) -> None:
    answer = classifier(photographs[0], top_k=100)
    assert sorted(guess.id for guess in answer) == [label.id for label in classifier.classes]
    assert [g.probability for g in answer] == sorted((g.probability for g in answer), reverse=True)
    assert classifier(photographs[0]) == answer[:5]
    assert answer[0].label == f"class {answer[0].id[1:]}"
    assert re.fullmatch(r" *\d+\.\d\d%  class \d", str(answer[0]))
    assert repr(classifier) == "<Classifier: tiny, step 12, 7 classes, cpu>"


def test_several_models_answer_by_their_mean(tmp_path: Path, photographs: list[Path]) -> None:
    models = [publish(tmp_path, f"m{seed}", seed=seed) for seed in range(2)]
    together = alexnet.load(*models).probabilities(photographs[:2])
    singles = [alexnet.load(model).probabilities(photographs[:2]) for model in models]
    torch.testing.assert_close(together, torch.stack(singles).mean(0), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("photograph", "text"),
    [
        (b"", "the photograph: the file is empty (0 bytes); replace it, or leave it out"),
        (b"<html>", "the photograph: the file is not an image of a supported format (JPEG, "
                    "PNG, WEBP, GIF, BMP, TIFF, AVIF, JPEG2000, PPM); convert it, or leave it out"),
        (b"\xff\xd8\xff\xe0 and no more", "the photograph: the image is damaged or cut short"),
        (Image.new("L", (1, 2**26 + 1)), "the photograph: the image has 67,108,865 pixels; the "
                                          "limit is 67,108,864; make it smaller, or leave it out"),
        ([np.zeros((9, 9, 3), np.uint8), np.zeros((3, 9, 9), np.uint8)],
         "photographs[1] is an array of shape (3, 9, 9) and dtype uint8; expected a path"),
        (np.zeros((2, 9, 9, 3), np.uint8), "the photograph is an array of shape (2, 9, 9, 3)"),
        (np.zeros((9, 9, 3)), "the photograph is an array of shape (9, 9, 3) and dtype float64"),
        (np.zeros((0, 9, 3), np.uint8), "the photograph is an array of shape (0, 9, 3)"),
        (np.zeros(9, np.uint8), "the photograph is an array of shape (9,) and dtype uint8"),
        (torch.zeros(3, 9, 9), "the photograph is a Tensor; expected a path, the bytes of a file"),
        (io.BytesIO(b"bytes"), "the photograph is a BytesIO; expected a path"),
        (7, "the photograph is a int; expected a path"),
        ([None], "photographs[0] is a NoneType; expected a path"),
        ("no.jpg", "no.jpg: No such file or directory; give the path of a photograph"),
        ([Path("/")], "/: Is a directory; give the path of a photograph"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_photograph_is_named(
    classifier: Classifier, photograph: object, text: str
) -> None:
    with pytest.raises(PhotographError, match=re.escape(text)):
        classifier(photograph)  # type: ignore[call-overload]


def test_a_bad_file_among_others_is_named(
    classifier: Classifier, photographs: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(photographs[0].read_bytes()[:-500])
    with pytest.raises(PhotographError, match=f"{bad}: the image is damaged"):
        classifier([*photographs, bad])


def test_bad_parameters_are_named(classifier: Classifier, photographs: list[Path]) -> None:
    with pytest.raises(UserError, match="views is 5; expected 1 or 10"):
        classifier(photographs[0], views=5)
    with pytest.raises(UserError, match="min_probability is nan; expected 0 to 1"):
        classifier(photographs[0], min_probability=float("nan"))
    with pytest.raises(UserError, match="top_k is 0; expected 1 or more"):
        classifier(photographs[0], top_k=0)


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"{tmp_path}: there is no published model"):
        alexnet.load(tmp_path)


def test_it_works_with_nothing_else_installed_and_leaves_pillow_alone(
    model: Path, photographs: list[Path]
) -> None:
    """In an interpreter that finds no package but those that alexnet itself needs."""
    code = f"""
import sys
sys.modules |= dict.fromkeys(("ray", "nvidia", "fastapi", "starlette", "uvicorn", "httptools",
    "pydantic_settings", "multipart", "python_multipart", "prometheus_client", "httpx", "httpx2",
    "faiss", "opentelemetry", "anyio", "yaml", "tqdm", "matplotlib", "scipy", "tensorboardX",
    "serving", "trainer", "pipeline"))
import alexnet
assert "torch" not in sys.modules and "PIL" not in sys.modules
from PIL import Image
import warnings
before = Image.MAX_IMAGE_PIXELS
print(alexnet.load({str(model)!r})({str(photographs[0])!r}, top_k=1)[0].id)
assert Image.MAX_IMAGE_PIXELS == before
assert not any(f[2] is Image.DecompressionBombWarning for f in warnings.filters)
"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == alexnet.load(model)(photographs[0])[0].id
