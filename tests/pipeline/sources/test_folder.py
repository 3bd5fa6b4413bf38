"""Listing photographs: a fixed order, and a clear word for what cannot be used."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet.command import UserError
from pipeline.manifest import DatasetError
from pipeline.sources import open_source
from pipeline.sources.builtin import builtin_source
from pipeline.sources.class_names import read_class_names
from pipeline.sources.folder import folder_source, unique_keys


def folder(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(file.encode())
    return root


def many(class_id: str, count: int) -> list[str]:
    return [f"{class_id}/{number:03d}.jpg" for number in range(count)]


def test_a_folder_with_both_splits(tmp_path: Path) -> None:
    folder(
        tmp_path, "train/b/1.jpg", "train/a/2.png", "train/a/x/3.jpg", "val/a/4.jpg", "val/b/5.gif"
    )
    source = folder_source(tmp_path, 0.1, {"a": "an apple"})
    assert [(c.id, c.name) for c in source.classes] == [("a", "an apple"), ("b", "b")]
    assert {s.key for s in source.splits["train"]} == {"a/2", "a/x/3", "b/1"}
    assert [(s.key, s.label) for s in source.splits["val"]] == [("a/4", 0), ("b/5", 1)]
    for sample in source.splits["val"]:
        assert (
            source.reader.read(sample.location)
            == f"val/{sample.key}".encode() + Path(sample.location).suffix.encode()
        )


def test_holding_out_is_by_class_and_survives_new_images(tmp_path: Path) -> None:
    folder(tmp_path, *many("a", 50), *many("b", 20), *many("c", 2))
    before = folder_source(tmp_path, 0.1, {}).splits
    assert sorted(s.label for s in before["val"]) == [0] * 5 + [1] * 2 + [2]
    assert len(before["train"]) == 72 - 8
    folder(tmp_path, "b/new.jpg")
    after = folder_source(tmp_path, 0.1, {}).splits
    held = {s.key for s in before["val"]}, {s.key for s in after["val"]}
    assert len(held[0] & held[1]) >= 7


def test_training_order_mixes_the_classes(tmp_path: Path) -> None:
    labels = [s.label for s in builtin_source(200).splits["train"]]
    assert any(a == b for a, b in pairwise(labels))
    assert labels != sorted(labels)


def test_keys_are_unique_and_hold_no_dot(tmp_path: Path) -> None:
    folder(tmp_path, "a/x.jpg", "a/x.png", "a/y.v2.jpg", "a/.hidden", "b/x.jpg", "b/z.jpg")
    source = folder_source(tmp_path, 0.3, {})
    keys = [s.key for split in source.splits.values() for s in split]
    assert sorted(keys) == ["a/x_jpg", "a/x_png", "a/y_v2", "b/x", "b/z"]


@given(st.sets(st.text("a.b_", min_size=1, max_size=6), min_size=2, max_size=12))
def test_no_two_files_share_a_key(names: set[str]) -> None:
    paths = [Path("root") / f"{name}.jpg" for name in names]
    keys = unique_keys(Path("root"), paths)
    assert len(set(keys.values())) == len(paths)
    assert not any("." in key for key in keys.values())


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ((), "holds 0 class folders; a classifier needs at least two"),
        (("a/1.jpg", "a/2.jpg"), "holds 1 class folder; a classifier needs at least two"),
        (
            ("train/val/a/1.jpg", "train/val/b/1.jpg", "train/val/c/1.jpg"),
            r"two, .*\. val/ in it is a split within a split, and holds a, b, …: give .*/train"
            "/val as the source, or move what it holds one level up",
        ),
        (("all/a/1.jpg", "all/b/1.jpg"), r"\. all/ in it holds a, b: give .*/all as the source"),
        (("x/train/a/1.jpg", "x/val/a/1.jpg"), r"\. x/ in it holds train, val: give .*/x as"),
        (("1.jpg", "2.jpg"), "holds 0 class folders"),
        (
            ("a/1.jpg", "a/2.jpg", "b/.keep"),
            "b: the class folder is empty, or holds only what is no photograph; put",
        ),
        (("a/1.jpg", "a/2.jpg", "b/1.jpg"), "this is the only image of its class; add more"),
        (
            ("train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/c/1.jpg"),
            "class b is in only one of train/ and val/",
        ),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, files: tuple[str, ...], text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        folder_source(folder(tmp_path, *files), 0.1, {})


def test_a_split_may_lie_in_a_folder_of_its_own_name(tmp_path: Path) -> None:
    files = (
        f"{split}/{split}/{name}/1.jpg" for split in ("training", "validation") for name in "ab"
    )
    source = folder_source(folder(tmp_path, *files), 0.1, {})
    assert [len(samples) for samples in source.splits.values()] == [2, 2]
    assert [label.id for label in source.classes] == ["a", "b"]


def test_other_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere: there is no such folder; give a folder"):
        open_source("nowhere", 0.1, None)
    folder(tmp_path, *many("a", 3), *many("b", 3))
    with pytest.raises(DatasetError, match=r"--val-fraction is 1.5; it must be"):
        open_source(str(tmp_path), 1.5, None)
    (tmp_path / "names.txt").write_text("a apple\nb\n")
    with pytest.raises(DatasetError, match=r"names.txt, line 2: .* is not `ID name`"):
        read_class_names(tmp_path / "names.txt")
    (tmp_path / "names.txt").write_text("a apple\n\na pear\n")
    with pytest.raises(DatasetError, match=r"names.txt, line 3: a has a line already; keep one"):
        read_class_names(tmp_path / "names.txt")
    with pytest.raises(UserError, match="class names cannot be read"):
        read_class_names(tmp_path / "none.txt")
