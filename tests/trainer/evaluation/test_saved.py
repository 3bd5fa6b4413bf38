"""Saved probabilities against the models that they are of, and files that are none."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet import console
from alexnet.checkpoint import current, load
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from pipeline.dataset import Dataset
from pipeline.order import Shard
from pipeline.photographs import index_photographs
from pipeline.sources import builtin
from pipeline.sources.folder import folder_source
from pipeline.sources.source import VAL_FRACTION
from trainer.arguments import COMMANDS
from trainer.evaluation.ensemble import mixtures
from trainer.evaluation.probabilities import (
    Answers,
    Network,
    Refused,
    Validation,
    answers,
    assemble,
)
from trainer.evaluation.results import ModelName, Results, section
from trainer.evaluation.saved import Origin, Saved, evaluate_saved, read

CLASSES = tuple(ClassLabel(id=f"n{n}", name=f"class {n}") for n in range(7))


def saved(seed: int = 0, views: tuple[int, ...] = (1, 10), **changes: Any) -> Saved:
    """Of eight images of seven classes; the same images whatever the seed."""
    random = torch.Generator().manual_seed(seed)
    found = {v: torch.randn(8, 7, generator=random).softmax(1).numpy() for v in views}
    model = ModelName(
        name=f"model{seed}", step=3, sha256="0" * 64, directory=Path("m"), trained_on=None
    )
    origin = Origin(
        model=model, kind="packed", place=Path("d"), dataset="d", duplicates=2, refused=()
    )
    files = np.array([f"class/{n}é" for n in range(8)])
    return Saved(origin, CLASSES, files, np.arange(8) % 7, found)._replace(**changes)


@pytest.mark.slow
def test_files_of_models_are_evaluated_as_the_models(
    dataset: Path, photographs: Path, publish: Callable, tmp_path: Path, run_on_cluster: Callable
) -> None:
    """Packed images and photographs, of which one is damaged; alone, together, by searched weights:
    the same report, to the last bit."""
    shutil.copytree(photographs, tmp_path / "originals")
    (tmp_path / "originals" / "disc" / "007.jpg").write_bytes(b"no image")
    six = ("disc", "ring", "square", "star", "dots", "wave")
    models = [publish(f"six{n}", six, crop=crop, size=128) for n, crop in enumerate((64, 96, 112))]
    for source in (("--data", dataset), ("--originals", tmp_path / "originals")):
        files = []
        for model in models:
            files.append(tmp_path / f"{source[0]}{model.name}.npz")
            done = run_on_cluster(
                "trainer", "evaluate", model, *source, "--save-probabilities", files[-1]
            )
            assert done.returncode == 0, done.stderr
            alone = run_on_cluster("trainer", "evaluate", "--probabilities", files[-1])
            assert done.stdout.endswith(alone.stdout)  # after the progress
            assert (alone.returncode, alone.stderr) == (0, "")
        words = ("trainer", "evaluate", "--search-weights", "--json")
        asked = run_on_cluster(*words, tmp_path / "asked.json", *models, *source)
        found = run_on_cluster(*words, tmp_path / "found.json", "--probabilities", *files)
        assert asked.returncode == found.returncode == 0, asked.stderr + found.stderr
        assert asked.stdout.endswith(found.stdout)
        assert (tmp_path / "found.json").read_bytes() == (tmp_path / "asked.json").read_bytes()


def test_models_asked_one_by_one_are_together_what_they_are_when_asked_at_once(
    photographs: Path, two_models: tuple[Path, Path], tmp_path: Path
) -> None:
    source = folder_source(photographs, VAL_FRACTION, {})
    data = index_photographs(source, tmp_path / "listed", 128)
    images, models = Validation(data.folder), [current(model) for model in two_models]
    label_N = data.val.label(np.arange(len(data.val)))
    classes = load(models[0]).about.classes

    def asked(*models: Path) -> Answers:
        parts = answers(images, models, (1, 10), Shard(0, 1, None), threads=1)
        return assemble(parts, len(images), classes=3, models=len(models), views=2)

    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for seed, (model, path) in enumerate(zip(models, paths, strict=True)):
        found = dict(zip((1, 10), asked(model).probability_MVNK[0].numpy(), strict=True))
        Saved(saved(seed).origin, classes, np.array(images.names()), label_N, found).write(path)
    at_once, labels = asked(*models), torch.from_numpy(label_N)
    names = ["model0, step 3", "model1, step 3"]
    expected = section(
        "packed", Path("d"), at_once, labels, views=(1, 10), classes=classes,
        mixtures=mixtures(names, at_once.probability_MVNK[:, -1], labels, search=False),
    )  # fmt: skip
    assert len(expected.rows) == 3
    assert evaluate_saved(paths, [1, 10], search=False).sections == (expected,)


@pytest.mark.slow
def test_a_file_has_what_numpy_users_look_for(
    dataset: Path, two_models: tuple[Path, Path], tmp_path: Path, run_on_cluster: Callable
) -> None:
    out = tmp_path / "wide.npz"
    done = run_on_cluster(
        "trainer", "evaluate", two_models[0], "--data", dataset, "--views", 10,
        "--save-probabilities", out,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["wide.npz"]
    val = Dataset(dataset).val
    with np.load(out) as file:
        assert sorted(file) == ["about", "classes", "files", "labels", "names", "probabilities_10"]
        assert file["files"].tolist() == val.keys()
        assert np.array_equal(file["labels"], val.label(np.arange(len(val))))
        assert file["classes"].tolist() == ["disc", "ring", "square"]
        assert file["names"].tolist() == ["Disc", "Ring", "Square"]
        about = load(two_models[0]).about
        assert json.loads(str(file["about"]))["model"]["sha256"] == about.weights_sha256
        probability_NK = file["probabilities_10"]
    assert (probability_NK.dtype, probability_NK.shape) == (np.float32, (12, 3))
    image_NSS3 = np.stack([decoded(val.jpeg(n)) for n in range(len(val))])
    image_N3SS = torch.from_numpy(image_NSS3).permute(0, 3, 1, 2)
    (expected_NK,) = Network(two_models[0], torch.device("cpu"), served=True)(image_N3SS, [10])
    np.testing.assert_allclose(probability_NK, expected_NK, atol=1e-5)


def decoded(jpeg: np.ndarray) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg.tobytes())))


@pytest.mark.parametrize("views", [(1,), (10,), (1, 10)])
def test_what_is_written_is_read(views: tuple[int, ...], tmp_path: Path) -> None:
    before = saved(3, views)
    before.write(tmp_path / "a.npz")
    after = read(tmp_path / "a.npz")
    assert (after.origin, after.classes) == (before.origin, before.classes)
    assert np.array_equal(after.file_N, before.file_N)
    assert np.array_equal(after.label_N, before.label_N)
    assert list(after.probability_NK) == list(views)
    for view in views:
        assert np.array_equal(after.probability_NK[view], before.probability_NK[view])
    saved(3, views).write(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_together_they_answer_with_their_mean_by_the_views_that_all_have(tmp_path: Path) -> None:
    members = [saved(0), saved(1, (10,)), saved(2)]
    paths = [tmp_path / f"{n}.npz" for n in range(3)]
    for each, path in zip(members, paths, strict=True):
        each.write(path)
    results = evaluate_saved(paths, [1, 10], search=True)
    assert results.views == (10,)
    assert (results.dataset, results.duplicates) == ("d", 2)
    (section,) = results.sections
    names = ["model0, step 3", "model1, step 3", "model2, step 3", "3 CNNs"]
    assert [row.name for row in section.rows] == [*names, "3 CNNs, weights searched"]
    mean_NK = np.mean([each.probability_NK[10] for each in members], axis=0)
    right = int((mean_NK.argmax(1) == members[0].label_N).sum())
    assert section.rows[3].scores[0].top1 == right
    alone = evaluate_saved(paths[:1], [1, 10], search=False)
    assert alone.views == (1, 10)


def test_an_image_that_one_could_not_use_counts_for_none(tmp_path: Path) -> None:
    whole, partly = saved(0), saved(1)
    refused = (Refused(2, "class/2é", "damaged"),)
    for probability_NK in partly.probability_NK.values():
        probability_NK[2] = np.nan
    partly = partly._replace(origin=partly.origin.model_copy(update={"refused": refused}))
    for each, name in ((whole, "a"), (partly, "b")):
        each.write(tmp_path / name)
    (section,) = evaluate_saved([tmp_path / "a", tmp_path / "b"], [1, 10], search=False).sections
    assert section.pictures == 7
    assert [file.file for file in section.refused] == ["class/2é"]


def refusal(first: Path, *others: Path, views: tuple[int, ...] = (1, 10)) -> str:
    with pytest.raises(UserError) as error:
        evaluate_saved([first, *others], views, search=False)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    a, b = tmp_path / "a.npz", tmp_path / "b.npz"
    saved(0).write(a)
    swapped = (CLASSES[1], CLASSES[0], *CLASSES[2:])
    short = saved(1)
    files_N, labels_N = short.file_N.copy(), short.label_N.copy()
    files_N[5], labels_N[6] = "class/0", 0
    for change, text in (
        (
            {"classes": swapped},
            f"{a} and {b} have different classes: class 0 is n0 in the first, n1 in the second",
        ),
        (
            {
                "file_N": short.file_N[:5], "label_N": short.label_N[:5],
                "probability_NK": {1: short.probability_NK[1][:5]},
            },
            f"{a} and {b} are about different images: 8 and 5; both models must have been",
        ),
        ({"file_N": files_N}, "image 5 is called class/5é in the first, class/0 in the"),
        ({"label_N": labels_N}, "image 6 is of class n6 in the first, n0 in the second"),
    ):  # fmt: skip
        saved(1, **change).write(b)
        assert text in refusal(a, b)
    saved(0, (1,)).write(a)
    saved(1, (10,)).write(b)
    assert f"no number of views that all files answer by ({a} by 1; {b} by 10)" in refusal(a, b)
    assert f"({a} by 1)" in refusal(a, views=(10,))


def test_what_is_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    assert refusal(path) == f"{path}: No such file or directory; check the path"
    assert refusal(tmp_path) == f"{tmp_path}: Is a directory; check the path"
    saved().write(path)
    whole = path.read_bytes()
    with np.load(path) as file:
        content = dict(file)

    def packed(**changes: object) -> bytes:
        np.savez(tmp_path / "x.npz", **content | changes)
        return (tmp_path / "x.npz").read_bytes()

    np.save(tmp_path / "x.npy", np.zeros(3))
    np.savez(tmp_path / "y.npz", files=np.zeros(3))
    probability_NK = content["probabilities_1"]
    for data in (
        b"", b"{}", whole[: len(whole) // 2], whole[:-1], (tmp_path / "x.npy").read_bytes(),
        (tmp_path / "y.npz").read_bytes(), packed(about="{}"), packed(about=np.arange(3)),
        packed(labels=np.full(8, 7)), packed(labels=np.full(8, -1)), packed(labels=0),
        packed(files=content["files"][:7]), packed(names=content["names"][:6]),
        packed(probabilities_1=probability_NK[:7]), packed(probabilities_1=probability_NK[:, :6]),
        packed(probabilities_1=probability_NK.astype(float)), packed(labels="x"),
        packed(files=np.array([object()] * 8)), builtin.draw("3", seed=1),
    ):  # fmt: skip
        path.write_bytes(data)
        text = refusal(path)
        assert f"{path}: this is no file of `alexnet evaluate --save-probabilities` (" in text
        assert text.endswith("); write it again")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--save-probabilities", "no/where.npz"), "--save-probabilities no/where.npz: there is"),
        (("--probabilities", "--data", "d"), "--data asks models, but with --probabilities files"),
        (("--probabilities", "--calibrate"), "--calibrate asks models, but with --probabilities"),
        (("--probabilities", "--save-probabilities", "x"), "--save-probabilities asks models, but"),
        (("--probabilities", "--search-weights"), "--search-weights needs several models, but one"),
    ],
)
def test_bad_usage_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], text: str
) -> None:
    saved().write(tmp_path / "a.npz")
    try:
        status = console.run(
            "alexnet", COMMANDS, arguments=["evaluate", str(tmp_path / "a.npz"), *words]
        )
    except SystemExit as end:
        status = end.code
    assert status == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_results_are_read_back(tmp_path: Path) -> None:
    saved().write(tmp_path / "a.npz")
    results = evaluate_saved([tmp_path / "a.npz"], [1], search=False)
    assert Results.model_validate_json(results.model_dump_json()) == results
