"""Labels from tables: the same dataset as from class folders, and a word on each doubt."""

import csv
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet.command import UserError
from pipeline.sources import Columns, Source, open_source
from pipeline.sources.label_table import MAX_BYTES, read_table
from pipeline.sources.labelled import labelled_source
from tests.pipeline.test_pack import content

Rows = Sequence[Sequence[str]]
CATS_AND_DOGS = [(f"{name}{n}.jpg", name) for name in ("cat", "dog") for n in range(4)]


def photographs(root: Path, *places: str) -> Path:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(place.encode())
    return root


def write(path: Path, header: Sequence[str], rows: Rows, delimiter: str = ",") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([header, *rows])
    return path


def described(source: Source) -> dict[str, list[tuple[str, str, bytes]]]:
    """All that a dataset is made of: (key, class, bytes) of each sample, in order."""
    return {
        split: [
            (s.key, source.classes[s.label].id, source.reader.read(s.location)) for s in samples
        ]
        for split, samples in source.splits.items()
    }


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Four cats and four dogs, and labels.csv."""
    root = photographs(tmp_path / "flat", *(name for name, _ in CATS_AND_DOGS))
    write(root / "labels.csv", ("file", "label"), CATS_AND_DOGS)
    return root


def refusal(root: Path, labels: Path | None = None, columns: Columns | None = None) -> str:
    with pytest.raises(UserError) as refused:
        open_source(str(root), 0.25, None, labels or root / "labels.csv", columns or Columns())
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_dataset_is_that_of_class_folders_to_the_byte(
    photographs: Path, dataset: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    root, rows = tmp_path / "flat", []
    for path in sorted(photographs.glob("*/*.jpg")):
        place = Path("images") / path.parent.name / path.name
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / place)
        rows.append((path.parent.name, str(place)))
    labels = write(root / "labels.csv", ("Class", "Path"), rows, ";")
    done = run_on_cluster(
        "pipeline", "pack", root, tmp_path / "packed", "--size", 128, "--labels", labels
    )
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "packed") == content(dataset)


@settings(max_examples=20)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["train", "val"])), min_size=1))
def test_splits_of_a_column_are_those_of_folders(rows: list[tuple[str, str]]) -> None:
    rows = [*((c, s) for c in "ab" for s in ("train", "val")), *rows]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        flat = [(f"x/{n}.jpg", label, split) for n, (label, split) in enumerate(rows)]
        for place, label, split in flat:
            for path in (root / "flat" / place, root / split / label / Path(place).name):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(place.encode())
        table = write(root / "labels.csv", ("path", "target", "Split"), flat)
        found = described(labelled_source(root / "flat", [table], Columns(), 0.1, {}))
        (root / "folders").mkdir()
        for split in ("train", "val"):
            (root / split).rename(root / "folders" / split)
        assert found == described(open_source(str(root / "folders"), 0.1, None))


def test_the_metadata_of_image_folders_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "validation", "test"):
        for name, _ in CATS_AND_DOGS:
            photographs(tmp_path, f"{split}/{name}")
    for split in ("train", "validation", "test"):
        lines = [json.dumps({"file_name": n, "label": c, "box": [1, 2]}) for n, c in CATS_AND_DOGS]
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(lines))
    source = open_source(str(tmp_path), 0.1, None)
    assert [len(source.splits[split]) for split in ("train", "val")] == [8, 8]
    assert all("validation" in sample.location for sample in source.splits["val"])
    said = capsys.readouterr().err
    assert "the labels are those of train/metadata.jsonl" in said
    assert "left out: the test split (8 photographs)" in said


def test_one_metadata_beside_the_photographs(flat: Path) -> None:
    expected = described(open_source(str(flat), 0.25, None, flat / "labels.csv"))
    header = ("file_name", "label", "text")
    rows = [(*row, "a cat,\nor a dog") for row in CATS_AND_DOGS]
    write(flat / "metadata.csv", header, rows)
    assert described(open_source(str(flat), 0.25, None)) == expected
    write(flat / "metadata.csv", ("file_name", "kind", "text"), rows)
    found = open_source(str(flat), 0.25, None, columns=Columns(label="kind"))
    assert described(found) == expected
    with pytest.raises(UserError, match=r"metadata\.csv: none of its .* --label-column"):
        open_source(str(flat), 0.25, None)


def test_metadata_without_labels_leaves_them_to_the_folders(tmp_path: Path) -> None:
    photographs(tmp_path, *(f"{c}/{n}" for n, c in CATS_AND_DOGS))
    expected = described(open_source(str(tmp_path), 0.25, None))
    rows = [(f"{c}/{n}", "a caption") for n, c in CATS_AND_DOGS]
    write(tmp_path / "metadata.csv", ("file_name", "text"), rows)
    assert described(open_source(str(tmp_path), 0.25, None)) == expected
    with pytest.raises(UserError, match=r"--label-column names a column, but .* --labels"):
        open_source(str(tmp_path), 0.25, None, columns=Columns(label="kind"))


@pytest.mark.parametrize("one_each", [True, False])
def test_the_tables_of_traffic_signs(tmp_path: Path, one_each: bool) -> None:
    """As GTSRB has them: images of one name in each class folder, semicolons, a column of sizes."""
    root = tmp_path / "Images"
    header = ("Filename", "Width", "Height", "Roi.X1", "ClassId")
    rows = {k: [(f"00000_{n:05d}.ppm", "9", "9", "1", str(k)) for n in range(4)] for k in (0, 14)}
    for k in rows:
        photographs(root, *(f"{k:05d}/{row[0]}" for row in rows[k]))
        if one_each:
            write(root / f"{k:05d}" / f"GT-{k:05d}.csv", header, rows[k], ";")
    labels = root
    if not one_each:
        all_rows = [(f"{k:05d}/{row[0]}", *row[1:]) for k in rows for row in rows[k]]
        labels = write(tmp_path / "all.csv", header, all_rows, ";")
    source = open_source(str(root), 0.25, None, labels)
    assert [c.id for c in source.classes] == ["0", "14"]
    samples = source.splits["train"] + source.splits["val"]
    assert sorted(s.key for s in samples) == sorted(
        f"{k}/00000_{n:05d}" for k in (0, 14) for n in range(4)
    )
    assert all(f"/{int(source.classes[s.label].id):05d}/" in s.location for s in samples)


def test_files_of_one_name_and_class_keep_apart(tmp_path: Path) -> None:
    places = ["a/1.jpg", "b/1.jpg", "1.jpg", "a/2.jpg"]
    photographs(tmp_path, *places, "c/3.jpg", "c/4.jpg")
    rows = [(place, "x/y") for place in places] + [("c/3.jpg", "x_y"), ("c/4.jpg", "x_y")]
    source = open_source(
        str(tmp_path), 0.5, None, write(tmp_path / "labels.csv", ("file", "label"), rows)
    )
    samples = source.splits["train"] + source.splits["val"]
    keys = {Path(s.location).relative_to(tmp_path).as_posix(): s.key for s in samples}
    assert keys == {
        "a/1.jpg": "x_y/a/1", "b/1.jpg": "x_y/b/1", "1.jpg": "x_y/1", "a/2.jpg": "x_y/2",
        "c/3.jpg": "x_y/3", "c/4.jpg": "x_y/4",
    }  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiters_and_encodings(tmp_path: Path, delimiter: str, encoding: str) -> None:
    text = io.StringIO()
    rows = [("", "File", "Class"), ("0", "a, b; c|d.jpg", "Käse"), (), ("1", " x.jpg ", "y")]
    csv.writer(text, delimiter=delimiter).writerows(rows)
    path = tmp_path / "labels"
    path.write_bytes(text.getvalue().encode(encoding))
    found = [(row.place, row.file, row.label) for row in read_table(path, Columns())]
    assert found == [
        (f"{path}, row 2", "a, b; c|d.jpg", "Käse"),
        (f"{path}, row 4", "x.jpg", "y"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "there are no rows in it; give a table of rows"),
        ("file,label\n", "there are no rows in it"),
        ("a.jpg,cat\nb.jpg,dog\n", r"none of its .* \(file, .*with --file-column.* a\.jpg, cat"),
        ("file,kind\na,b\n", r"none of its .* \(label, .*with --label-column.* file, kind"),
        ("file,path,label\na,b,c\n", r"its columns file and path .* --file-column file\."),
        ("file,label,Label\na,b,c\n", r"its columns label and Label .* --label-column label"),
        ("file,label,label\na,b,c\n", r"it has two columns 'label'; rename one"),
        ('file,label\na,"b\n', r"row 2: it cannot be read as CSV \(.*\); save the table"),
        ("file,label\na,b,c\n", r"row 2: it has 3 values, but the table 2 columns; .* quotes"),
        ("file,label\na,b\n,b\n", r"row 3: file is empty; name the photograph, or remove"),
        ("file,label\na,b\nc, \n", r"row 3: label of 'c' is empty; give it a label, or remove"),
        ("file,label\nc\n", r"row 2: label of 'c' is empty"),
        ("file,label,split\nc,d,\n", r"row 2: split of 'c' is ''; write train, val or test"),
        ("file,label,split\nc,d,1\n", r"row 2: split of 'c' is '1'; write train, val or test"),
        ('{"file": "a", "label": 1}\n{"file"\n', r"line 2: '{\"file\"' is no JSON object; write"),
        ('[{"file": "a", "label": 1}]', r"line 1: .* is no JSON object; write one for each"),
        ('{"file": "a", "label": [1]}', r"line 1: label is '\[1\]'; write it as text, or as a"),
        ('{"file": "a", "label": true}', r"line 1: label is 'true'; write it as text"),
        ('{"file": "a"}\n{"file": "b", "label": 0}', r"line 1: label of 'a' is empty"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_understood(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=f"{re.escape(str(path))}(: |, ){message}"):
        list(read_table(path, Columns()))


def test_other_tables_that_cannot_be_read(flat: Path, tmp_path: Path) -> None:
    assert "cannot be read (No such file" in refusal(flat, tmp_path / "no.csv")
    (tmp_path / "latin.csv").write_bytes("file,label\nä,b".encode("latin-1"))
    assert "latin.csv, line 2: the labels are not in UTF-8" in refusal(flat, tmp_path / "latin.csv")
    with (tmp_path / "large.csv").open("w") as file:
        os.truncate(file.fileno(), MAX_BYTES + 1)
    assert "the limit is 500,000,000" in refusal(flat, tmp_path / "large.csv")
    (tmp_path / "empty").mkdir()
    assert "there is no table (.csv, .tsv, .jsonl) in this folder" in refusal(
        flat, tmp_path / "empty"
    )


def with_rows(flat: Path, *rows: Sequence[str], header: Sequence[str] = ("file", "label")) -> Path:
    return write(flat / "labels.csv", header, [*CATS_AND_DOGS, *rows])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("cat9.jpg", "cat"), "no photograph 'cat9.jpg' in .*flat; put it there, correct the name"),
        (("cat0", "cat"), "no photograph 'cat0' in .*; write names with .* as 'cat0.jpg'"),
        (("a\\cat0.jpg", "cat"), r"no photograph .*; write / for every \\ in the table"),
        (("deep", "cat"), "no photograph 'deep' in .*; this is a folder; name the photographs"),
        (("x" * 9999, "cat"), "no photograph 'x{100}…' in "),
        (("/etc/passwd", "cat"), "'/etc/passwd' is an absolute path; write it as it is seen from"),
        (("../secret.jpg", "cat"), r"'\.\./secret\.jpg' leads out of .*flat; move the photograph"),
        (("deep/../../secret.jpg", "cat"), "leads out of .*flat; move"),
        (("deep/../cat0.jpg", "dog"), "label of 'cat0.jpg' is 'dog', but 'cat' in .*, row 2; remo"),
    ],
)  # fmt: skip
def test_a_row_that_leads_to_no_photograph(flat: Path, row: Rows, message: str) -> None:
    photographs(flat, "deep/x.jpg", "../secret.jpg")
    with_rows(flat, row)  # type: ignore[arg-type]
    assert re.search(rf"flat/labels\.csv, row 10: .*{message}", refusal(flat))


def test_what_is_said_and_not_refused(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_rows(flat, ("./cat0.jpg", "cat"))
    photographs(flat, "deep/more.png", "notes.txt", ".hidden.jpg")
    source = open_source(str(flat), 0.25, None, flat / "labels.csv")
    assert [len(source.splits[split]) for split in ("train", "val")] == [6, 2]
    assert capsys.readouterr().err == (
        f"{flat}: left out: rows that name a photograph again, with the same label (1)\n"
        f"{flat}: left out: files that labels.csv does not name (1), such as 'deep/more.png'\n"
    )


def test_paths_from_the_table_or_from_the_folder(flat: Path, tmp_path: Path) -> None:
    expected = described(open_source(str(flat), 0.25, None, flat / "labels.csv"))
    rows = [(f"flat/{name}", label) for name, label in CATS_AND_DOGS]
    for labels in (
        write(tmp_path / "from_the_table.csv", ("file", "label"), rows),
        write(tmp_path / "from_the_folder.csv", ("file", "label"), CATS_AND_DOGS),
    ):
        assert described(open_source(str(flat), 0.25, None, labels)) == expected
    photographs(flat, "deep/cat0.jpg")
    labels = write(flat / "deep" / "labels.csv", ("file", "label"), CATS_AND_DOGS)
    assert "'cat0.jpg' may be deep/cat0.jpg or cat0.jpg in" in refusal(flat, labels)


def test_splits_that_are_not_clear(tmp_path: Path) -> None:
    both = ("file", "label", "split")
    photographs(tmp_path, "train/1.jpg", "train/2.jpg", "val/3.jpg", "4.jpg")
    rows = [("train/1.jpg", "a"), ("train/2.jpg", "b"), ("val/3.jpg", "a"), ("4.jpg", "b")]
    labels = write(tmp_path / "labels.csv", ("file", "label"), rows)
    assert "val may mean a split or not" in refusal(tmp_path)
    write(labels, ("file", "label"), rows[:3])
    assert "labels.csv, row 3: label 'b' is only in one of the splits" in refusal(tmp_path)
    write(labels, both, [(*row, "test") for row in rows])
    assert "no row is of the split train" in refusal(tmp_path)
    write(labels, both, [(*row, "train") for row in rows])
    write(tmp_path / "more" / "x.csv", both, [("4.jpg", "b", "val")])
    assert "split of '4.jpg' is 'val', but 'train' in" in refusal(tmp_path, tmp_path)
    write(labels, ("file", "label"), [(name, "a") for name, _ in rows[:2]])
    assert "every label is 'a'; a classifier needs at least two" in refusal(tmp_path)


def test_words_have_labels_already(flat: Path) -> None:
    for name in ("builtin", "imagenette"):
        with pytest.raises(UserError, match=f"--labels is for folders .*; leave it out for {name}"):
            open_source(name, 0.1, None, flat / "labels.csv")
    with pytest.raises(UserError, match="--file-column is for folders of photographs"):
        open_source("builtin", 0.1, None, columns=Columns("x"))


def test_the_command_says_it_in_one_line(flat: Path, tmp_path: Path, run: Callable) -> None:
    labels = with_rows(flat, ("cat9.jpg", "cat"), header=("Bild", "Art"))
    words = ("alexnet", "pack", flat, tmp_path / "packed", "--labels", labels)
    done = run(*words, "--file-column", "bild", "--label-column", "Art")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "labels.csv, row 10: there is no photograph 'cat9.jpg'" in done.stderr
