"""Originals are answered about as the server would."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.checkpoint import About, load
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from alexnet.model import AlexNetConfig
from alexnet.pixels import whole_image
from alexnet.predictor import Predictor
from pipeline.dataset import Dataset
from pipeline.order import Shard
from trainer.evaluation.originals import Originals, list_originals
from trainer.evaluation.probabilities import EvaluationImages, Validation, answers, assemble

CLASSES = tuple(ClassLabel(id=name, name=name) for name in ("disc", "ring", "square"))


def about(classes: tuple[ClassLabel, ...], size: int) -> About:
    network = AlexNetConfig(classes=len(classes), crop=64)
    return About(
        name="a", step=0, network=network, classes=classes, size=size,
        dataset=None, recipe={}, trained_at=None, versions={},
    )  # fmt: skip


@pytest.fixture
def few(photographs: Path, tmp_path: Path) -> Path:
    """Five photographs of each class, and two files that are none."""
    for source in sorted(photographs.glob("*/00[0-4].jpg")):
        (tmp_path / source.parent.name).mkdir(exist_ok=True)
        shutil.copy(source, tmp_path / source.parent.name)
    (tmp_path / "disc" / "cut.jpg").write_bytes((photographs / "disc/009.jpg").read_bytes()[:900])
    (tmp_path / "ring" / "notes.jpg").write_text("no image")
    return tmp_path


@pytest.mark.parametrize("workers", [1, 3])
def test_answers_are_the_servers_own(
    few: Path, small_models: tuple[Path, Path], workers: int
) -> None:
    originals, label_N, packed_N = list_originals(few, about(CLASSES, 72), None)
    assert (len(originals), packed_N) == (17, None)
    parts = [
        part
        for index in range(workers)
        for part in answers(originals, small_models, (1, 10), Shard(index, workers, None), 2)
    ]
    found_MVNK, refused = assemble(parts, 17, classes=3, models=2, views=2)
    assert [Path(row.file).name for row in refused] == ["cut.jpg", "notes.jpg"]
    assert "damaged or cut short" in refused[0].reason
    assert "not an image of a supported format (JPEG" in refused[1].reason
    predictors = [Predictor([load(model)]) for model in small_models]
    for sample, file in enumerate(originals.files):
        assert CLASSES[label_N[sample]].id == Path(file).parent.name
        if sample in [row.sample for row in refused]:
            assert found_MVNK[:, :, sample].isnan().all()
            continue
        image = torch.tensor(whole_image(Path(file).read_bytes(), 72)).permute(2, 0, 1)[None]
        for model, predictor in enumerate(predictors):
            for view, views in enumerate((1, 10)):
                torch.testing.assert_close(
                    found_MVNK[model, view, sample], predictor.classify(image, views)[0].mean(0)
                )


def test_a_datasets_originals_are_found_by_name(photographs: Path, dataset: Path) -> None:
    packed = Dataset(dataset)
    originals, label_N, packed_N = list_originals(photographs, about(CLASSES, 128), packed)
    assert packed_N is not None
    assert sorted(packed_N) == list(range(12))  # of 120: the others were trained on
    assert np.array_equal(packed.val.label(packed_N), label_N)
    ours_NP, theirs_NP = flat(originals), flat(Validation(dataset))
    distance_NN = torch.cdist(ours_NP, theirs_NP)
    assert distance_NN.argmin(1).tolist() == packed_N.tolist()


def flat(images: EvaluationImages) -> torch.Tensor:
    """All images in order, (N, pixels)."""
    batches = list(images.batches(Shard(0, 1, None), 5, 2))
    assert np.array_equal(np.concatenate([few.sample_N for few in batches]), range(len(images)))
    return torch.cat([few.image_N3SS for few in batches]).flatten(1).float()


@pytest.mark.parametrize("val", ["val", "Validation", "valid"])
def test_val_is_taken_where_there_is_one(few: Path, val: str) -> None:
    (few / val).mkdir()
    for name in ("disc", "ring"):  # not every class has to be there
        (few / name).rename(few / val / name)
    originals, label_N, _ = list_originals(few, about(CLASSES[::-1], 64), None)
    assert {Path(file).parts[-3] for file in originals.files} == {val}
    assert label_N.tolist() == [2] * 6 + [1] * 6


@pytest.mark.parametrize("kept", [("disc",), ("ring",), ("disc", "square")])
def test_folders_of_some_classes(few: Path, kept: tuple[str, ...]) -> None:
    for folder in [path for path in few.iterdir() if path.name not in kept]:
        shutil.rmtree(folder)
    files, label_N = list_originals(few, about(CLASSES, 64), None)[:2]
    names = [Path(file).parent.name for file in files.files]
    assert set(names) == set(kept)
    assert [CLASSES[label].id for label in label_N] == names


def test_folders_named_by_the_names_of_classes(few: Path) -> None:
    """An id goes before a name; what several classes are called names none of them."""
    named = [("n1", "disc"), ("n2", "two"), ("n3", "two"), ("ring", "x"), ("n4", "ring")]
    classes = tuple(ClassLabel(id=i, name=name) for i, name in named)
    (few / "square").rename(few / "n2")
    files, label_N, _ = list_originals(few, about(classes, 64), None)
    expected = {"disc": 0, "n2": 1, "ring": 3}
    assert [expected[Path(file).parent.name] for file in files.files] == label_N.tolist()
    (few / "n2").rename(few / "two")
    with pytest.raises(UserError, match="two is no class of the models"):
        list_originals(few, about(classes, 64), None)


def test_photographs_without_a_class_folder(few: Path) -> None:
    with pytest.raises(UserError, match=r"disc: there is no class folder in it; put the photograp"):
        list_originals(few / "disc", about(CLASSES, 64), None)


def test_what_does_not_belong_together_is_named(few: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"ring is no class of the models; .* disc and so on"):
        list_originals(few, about((CLASSES[0], CLASSES[2]), 64), None)
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        list_originals(tmp_path / "nowhere", about(CLASSES, 64), None)
    for number, path in enumerate(sorted(few.glob("*/*"))):
        path.rename(path.with_name(f"other{number}"))
    with pytest.raises(UserError, match="no photograph is named as a validation image of"):
        list_originals(few, about(CLASSES, 128), Dataset(dataset))


def test_nothing_is_lost_between_batches(few: Path) -> None:
    originals = Originals(tuple(map(str, sorted(few.glob("*/*")))), 64)
    for workers in (1, 2, 3):
        batches = [
            few
            for index in range(workers)
            for few in originals.batches(Shard(index, workers, None), 4, 1)
        ]
        seen = [n for few in batches for n in few.sample_N]
        assert sorted(seen + [r.sample for few in batches for r in few.refused]) == list(range(17))
        assert all(few.image_N3SS.shape[1:] == (3, 64, 64) for few in batches)
