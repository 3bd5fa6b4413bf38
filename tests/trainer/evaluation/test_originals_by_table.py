"""Photographs with a table beside them are evaluated as the same ones in class folders."""

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet import console
from alexnet.checkpoint import About, load
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from pipeline.dataset import Dataset
from pipeline.sources import Columns
from trainer.arguments import COMMANDS
from trainer.evaluation.originals import Labels, Listed, list_originals
from trainer.evaluation.results import Results

HEADER = ("Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId")
SIGNS = tuple(ClassLabel(id=str(n), name=name) for n, name in enumerate(("20", "30", "stop")))


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([header, *rows])
    return path


@pytest.fixture
def signs(photographs: Path, tmp_path: Path) -> Path:
    """As GTSRB has its test photographs: Images/ of PPM files, and a table beside it; the same in
    folders/, by class."""
    (tmp_path / "Images").mkdir()
    rows = []
    mixed = sorted(photographs.glob("*/00[0-3].jpg"), key=lambda path: path.name)
    for number, source in enumerate(mixed):
        label, name = ("disc", "ring", "square").index(source.parent.name), f"{number:05d}.ppm"
        with Image.open(source) as image:
            image.save(tmp_path / "Images" / name)
        folder = tmp_path / "folders" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((tmp_path / "Images" / name).read_bytes())
        rows.append((name, 9, 9, 5, 5, 8, 8, label))
    write(tmp_path / "GT-final_test.csv", HEADER, rows)
    return tmp_path


@pytest.fixture
def about(two_models: tuple[Path, Path]) -> About:
    """Of a model of three signs."""
    return load(two_models[0]).about.model_copy(update={"classes": SIGNS})


def listed(root: Path, about: About, table: str = "GT-final_test.csv") -> Listed:
    return list_originals(root / "Images", about, None, Labels(root / table))


def by_name(found: Listed) -> dict[str, int]:
    names = [Path(file).name for file in found.originals.files]
    return dict(zip(names, found.label_N.tolist(), strict=True))


@pytest.mark.slow
def test_the_accuracy_is_that_of_class_folders(
    signs: Path, publish: Callable, run_on_cluster: Callable
) -> None:
    model = publish("signs", ("2", "0", "1"), crop=64, size=64)
    found = []
    for words in (
        ("--originals", signs / "folders"),
        ("--originals", signs / "Images", "--labels", signs / "GT-final_test.csv"),
    ):
        done = run_on_cluster("trainer", "evaluate", model, *words, "--json", signs / "found.json")
        assert done.returncode == 0, done.stderr
        found.append(Results.model_validate_json((signs / "found.json").read_bytes()).sections[0])
    folders, table = found
    assert (table.pictures, table.refused) == (12, ())
    assert table.rows == folders.rows


def test_the_photographs_are_those_of_class_folders(
    signs: Path, about: About, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = list_originals(signs / "folders", about, None)
    found = listed(signs, about)
    assert [Path(f).name for f in found.originals.files] == [
        Path(f).name for f in expected.originals.files
    ]
    assert np.array_equal(found.label_N, expected.label_N)
    assert set(found.label_N) == {0, 1, 2}
    assert capsys.readouterr().err == ""


def test_labels_may_be_names_and_columns_any(signs: Path, about: About) -> None:
    write(signs / "names.csv", ("Bild", "Art"), [("00000.ppm", "stop"), ("00001.ppm", "2")])
    labels = Labels(signs / "names.csv", Columns("Bild", "art"))
    found = list_originals(signs / "Images", about, None, labels)
    assert by_name(found) == {"00000.ppm": 2, "00001.ppm": 2}


@pytest.mark.parametrize(
    ("splits", "counted", "said"),
    [
        ("train val test", "00001.ppm", r"of other splits than val: test \(1\), train \(1\); to"),
        ("train test train", "00001.ppm", r"of other splits than test: train \(2\); to"),
        ("train train train", "00000.ppm 00001.ppm 00002.ppm", "val or test, so those of train c"),
        ("test test test", "00000.ppm 00001.ppm 00002.ppm", None),
    ],
)
def test_of_splits_those_held_out_count(
    signs: Path,
    about: About,
    capsys: pytest.CaptureFixture[str],
    splits: str,
    counted: str,
    said: str | None,
) -> None:
    rows = [(f"{n:05d}.ppm", n, split) for n, split in enumerate(splits.split())]
    write(signs / "split.csv", ("file", "label", "split"), rows)
    assert sorted(by_name(listed(signs, about, "split.csv"))) == counted.split()
    err = capsys.readouterr().err
    assert "left out: files that split.csv does not name (9)" in err
    assert re.search(said, err) if said else "of other splits" not in err


def test_splits_by_folders(signs: Path, about: About) -> None:
    for split, number in (("train", 0), ("valid", 1), ("valid", 2)):
        (signs / "Images" / split).mkdir(exist_ok=True)
        file = f"{number:05d}.ppm"
        (signs / "Images" / file).rename(signs / "Images" / split / file)
    rows = [("train/00000.ppm", 0), ("valid/00001.ppm", 1), ("valid/00002.ppm", 2)]
    write(signs / "some.csv", ("file", "label"), rows)
    assert sorted(by_name(listed(signs, about, "some.csv"))) == ["00001.ppm", "00002.ppm"]
    write(signs / "some.csv", ("file", "label"), [*rows, ("00003.ppm", 0)])
    assert len(by_name(listed(signs, about, "some.csv"))) == 4  # folders, and no splits


@pytest.mark.parametrize("column", [False, True])
def test_those_that_a_dataset_was_packed_from(
    photographs: Path, dataset: Path, two_models: tuple[Path, Path], tmp_path: Path, column: bool
) -> None:
    """By the names that they have in class folders, whether the table has its split or not."""
    packed, about = Dataset(dataset), load(two_models[0]).about
    keys = {*packed.val.keys()}
    rows = []
    for path in sorted(photographs.glob("*/*.jpg")):
        place = path.relative_to(photographs)
        split = ("val" if str(place.with_suffix("")) in keys else "train",) if column else ()
        rows.append((place, path.parent.name, *split))
    write(tmp_path / "labels.csv", ("file", "label", "split")[: len(rows[0])], rows)
    found = list_originals(photographs, about, packed, Labels(tmp_path / "labels.csv"))
    expected = list_originals(photographs, about, packed)
    assert found.originals == expected.originals
    assert np.array_equal(found.label_N, expected.label_N)
    assert found.packed_N is not None
    assert expected.packed_N is not None
    assert np.array_equal(found.packed_N, expected.packed_N)


def test_what_is_wrong_is_named_with_its_row(signs: Path, about: About) -> None:
    def refusal(*row: object) -> str:
        write(signs / "wrong.csv", ("file", "label"), [("00000.ppm", 0), row])
        with pytest.raises(UserError) as refused:
            listed(signs, about, "wrong.csv")
        assert "\n" not in str(refused.value)
        return str(refused.value)

    place = f"{signs / 'wrong.csv'}, row 3: "
    assert refusal("99999.ppm", 1).startswith(f"{place}there is no photograph '99999.ppm' in ")
    assert refusal("00001.ppm", 43) == (
        f"{place}43 is no class of the models; classes are found by their ids or names: 0 and so on"
    )
    assert refusal("00001.ppm", "a\nb").startswith(rf"{place}a\nb is no class of the models; ")
    assert refusal("00000.ppm", 1).startswith(f"{place}label of '00000.ppm' is '1', but '0' in ")
    with pytest.raises(UserError, match=r"no\.csv: .*cannot be read"):
        listed(signs, about, "no.csv")
    with pytest.raises(UserError, match="nowhere: there is no such folder; give a folder of photo"):
        list_originals(signs / "nowhere", about, None, Labels(signs / "GT-final_test.csv"))


def test_who_gives_no_table_is_told_of_it(signs: Path, about: About) -> None:
    for folder in (signs / "Images", signs):
        with pytest.raises(UserError, match=r"give .* with --labels TABLE"):
            list_originals(folder, about, None)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("MODEL --labels t.csv", "--labels says what photographs are of; give their folder with"),
        ("MODEL --data d --labels t.csv", "give their folder with --originals FOLDER"),
        ("MODEL --originals d --file-column x", "--file-column names a column of a table; give it"),
        ("MODEL --label-column x", "--label-column names a column of a table; give it with --lab"),
        ("--probabilities f.npz --labels t.csv", "--labels asks models, but with --probabilities"),
    ],
)
def test_labels_are_those_of_originals(
    capsys: pytest.CaptureFixture[str], words: str, text: str
) -> None:
    assert console.run("alexnet", COMMANDS, arguments=["evaluate", *words.split()]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1
