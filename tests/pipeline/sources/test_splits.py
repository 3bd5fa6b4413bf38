"""Splits are told by their usual names; none becomes a class, and none is mixed with another."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from pipeline.manifest import DatasetError
from pipeline.sources import open_source
from pipeline.sources.folder import folder_source
from pipeline.sources.splits import split_of

TRAIN = ("train", "Train", "TRAINING", "training_set", "train-images")
VAL = ("val", "valid", "VALID", "Validation", "dev", "eval", "val_set", "validation data")
TEST = ("test", "Test", "TESTING", "test_set", "testset")
NEITHER = (
    "cat",
    "trainer",
    "trains",
    "invalid",
    "value",
    "tests",
    "contest",
    "develop",
    "medieval",
)


def write(root: Path, files: Iterable[str]) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(file.encode())
    return root


def of_classes(split: str, count: int = 2) -> list[str]:
    return [f"{split}/{name}/{n}.jpg" for name in ("cat", "dog") for n in range(count)]


def files(root: Path, split: str) -> dict[str, int]:
    """{file below root: label} of a split."""
    source = folder_source(root, 0.5, {})
    assert [c.id for c in source.classes] == ["cat", "dog"]
    return {str(Path(s.location).relative_to(root)): s.label for s in source.splits[split]}  # type: ignore[index]


def labelled(names: list[str]) -> dict[str, int]:
    return {name: int("/dog/" in name) for name in names}


@pytest.mark.parametrize(
    ("names", "split"), [(TRAIN, "train"), (VAL, "val"), (TEST, "test"), (NEITHER, None)]
)
def test_the_usual_names(names: tuple[str, ...], split: str | None) -> None:
    assert [split_of(name) for name in names] == [split] * len(names)


@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize("val", VAL)
@pytest.mark.parametrize("test", [None, *TEST])
def test_validation_is_used_and_test_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], train: str, val: str, test: str | None
) -> None:
    write(tmp_path, of_classes(train, 3) + of_classes(val, 1))
    if test:
        write(tmp_path, of_classes(test))
    assert files(tmp_path, "train") == labelled(of_classes(train, 3))
    said = capsys.readouterr().err
    assert files(tmp_path, "val") == labelled(of_classes(val, 1))
    if test:
        assert said == (
            f"{tmp_path}: {test}/ left out: neither trained nor validated on; `alexnet evaluate "
            f"MODEL --originals {tmp_path / test}` measures a model on class folders\n"
        )
    else:
        assert said == ""


@pytest.mark.parametrize("beside", [(), ("test/1.jpg", "test/2.jpg"), ("Testing/cat/1.jpg",)])
def test_of_train_alone_a_share_is_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], beside: tuple[str, ...]
) -> None:
    write(tmp_path, (*of_classes("train", 4), *beside))
    found = files(tmp_path, "train"), files(tmp_path, "val")
    assert found[0] | found[1] == labelled(of_classes("train", 4))
    assert [len(split) for split in found] == [4, 4]
    said = capsys.readouterr().err
    assert f"{tmp_path}: nothing to validate on beside train/, so a share of each" in said
    assert ("left out: neither trained nor validated on" in said) == bool(beside)


@pytest.mark.parametrize("test", TEST)
def test_test_images_beside_class_folders_are_no_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], test: str
) -> None:
    write(tmp_path, [*of_classes("."), f"{test}/1.jpg", f"{test}/2.jpg"])
    found = files(tmp_path, "train") | files(tmp_path, "val")
    assert found == {name: int("dog/" in name) for name in map(str, map(Path, of_classes(".")))}
    assert f"{tmp_path}: {test}/ left out: neither trained nor" in capsys.readouterr().err


@pytest.mark.parametrize(
    "names",
    [
        ["train/1.jpg", "train/2.jpg", "test/1.jpg", "test/2.jpg"],
        ["train/1.jpg", "valid/1.jpg", "test/1.jpg"],
        ["train/1.jpg", "train/2.jpg"],
        [*of_classes("test")],
        [*of_classes("val"), *of_classes("test")],
        [*of_classes("."), "train/1.jpg", "train/2.jpg"],
        [*of_classes("."), "dev/1.jpg", "dev/2.jpg"],
        [*of_classes("."), *of_classes("train")],
        ["valid/1.jpg", "valid/2.jpg", "invalid/1.jpg", "invalid/2.jpg"],
        ["cat/1.jpg", "cat/2.jpg", "Test/1.jpg", "Test/2.jpg"],
        [*of_classes("seg_train/a"), *of_classes("seg_test/a"), "seg_pred/1.jpg", "seg_pred/2.jpg"],
        [*of_classes("cats_train"), *of_classes("cats_val")],
        [*of_classes("train1"), *of_classes("Val1")],
        [*of_classes("2024 Training"), *of_classes("2024 testing"), "other/1.jpg", "other/2.jpg"],
    ],
)
def test_two_readings_are_refused_with_both(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(DatasetError, match=r"If splits: put .*/train.* If classes: move .*/train"):
        folder_source(write(tmp_path, names), 0.5, {})


def test_whoever_has_a_table_is_told_where_to_give_it(tmp_path: Path) -> None:
    """As the traffic signs of GTSRB are unpacked: class folders, and a table for the test."""
    names = [*of_classes("Final_Training/Images"), *(f"Final_Test/Images/{n}.ppm" for n in "012")]
    with pytest.raises(DatasetError, match=r"If a table says the labels: give it with --labels TA"):
        folder_source(write(tmp_path, names), 0.5, {})


def test_below_a_split_any_name_is_a_class(tmp_path: Path) -> None:
    """As the refusal of two readings advises for a class called train."""
    names = [f"train/{name}/{n}.jpg" for name in ("bus", "test", "train") for n in range(2)]
    source = folder_source(write(tmp_path, names), 0.5, {})
    assert [c.id for c in source.classes] == ["bus", "test", "train"]
    assert {s.label for s in source.splits["train"]} == {0, 1, 2}


def test_of_two_names_of_one_split_the_plain_one_is_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, of_classes("train") + of_classes("val") + of_classes("eval"))
    assert files(tmp_path, "val") == labelled(of_classes("val"))
    assert f"{tmp_path}: eval/ left out" in capsys.readouterr().err
    (tmp_path / "val").rename(tmp_path / "valid")
    with pytest.raises(DatasetError, match=r"eval/, valid/ are names of one split; keep one of"):
        folder_source(tmp_path, 0.5, {})


@pytest.fixture
def shards(tmp_path: Path, tar: Callable[..., bytes]) -> Callable[..., Path]:
    """Shards of two samples in each of two classes, whose images tell where they are."""

    def made(*names: str) -> Path:
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            members = {}
            for n in range(4):
                members |= {f"{n}.jpg": name.encode(), f"{n}.cls": str(n % 2).encode()}
            (tmp_path / name).write_bytes(tar(members))
        return tmp_path

    return made


def places(folder: Path, split: str) -> set[str]:
    source = open_source(str(folder), 0.5, None)
    return {source.reader.read(s.location).decode() for s in source.splits[split]}  # type: ignore[index]


@pytest.mark.parametrize("train", TRAIN)
@pytest.mark.parametrize("val", VAL)
@pytest.mark.parametrize("test", TEST)
def test_shards_in_folders_of_splits(
    shards: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    train: str,
    val: str,
    test: str,
) -> None:
    folder = shards(f"{train}/0.tar", f"{val}/0.tar", f"{test}/0.tar")
    assert places(folder, "train") == {f"{train}/0.tar"}
    assert f"{folder}: {test}/ left out: neither trained nor" in capsys.readouterr().err
    assert places(folder, "val") == {f"{val}/0.tar"}


@pytest.mark.parametrize("test", ["test-0.tar", "x_TEST_0.tar", "testing.0.tar"])
def test_test_shards_beside_others_are_left_out(
    shards: Callable[..., Path], capsys: pytest.CaptureFixture[str], test: str
) -> None:
    folder = shards("x-train-0.tar", test, "contest.tar")
    for split in ("train", "val"):
        assert places(folder, split) == {"x-train-0.tar", "contest.tar"}
    assert f"{folder}: {test} left out" in capsys.readouterr().err


@pytest.mark.parametrize("val", ["val-0.tar", "x-valid.tar", "dev_0.tar", "EVAL-3.tar"])
def test_validation_shards_beside_others_are_refused(shards: Callable[..., Path], val: str) -> None:
    with pytest.raises(DatasetError, match=rf"{val} lies beside .*; move or link them into train"):
        open_source(str(shards("train-0.tar", val)), 0.5, None)


def test_shards_beside_a_validation_folder(shards: Callable[..., Path]) -> None:
    folder = shards("a.tar", "Validation/b.tar")
    assert places(folder, "train") == {"a.tar"}
    assert places(folder, "val") == {"Validation/b.tar"}


def test_no_training_shards(shards: Callable[..., Path]) -> None:
    with pytest.raises(DatasetError, match=r"there are no shards to train on; put some into .*/tr"):
        open_source(str(shards("valid/a.tar", "test/a.tar")), 0.5, None)
