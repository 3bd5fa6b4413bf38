"""The walk through folders: each once, nothing hidden, nothing passed over without a word."""

import os
import re
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from alexnet.command import UserError
from alexnet.tree import SYSTEM_FOLDERS
from pipeline.destination import RECORDS
from pipeline.shard import ShardPlan, pack_shard
from pipeline.sources import open_source
from pipeline.sources.folder import class_images, folder_source
from pipeline.sources.shards import shards_source

NOBODY = 65534


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Twenty files in two classes."""
    for name in ("a", "b"):
        (tmp_path / "plain" / name / "deep").mkdir(parents=True)
        for n in range(10):
            path = tmp_path / "plain" / name / ("deep" if n % 2 else "") / f"{n}.jpg"
            path.write_bytes(b"image")
    return tmp_path / "plain"


def listed(root: Path) -> set[tuple[str, str]]:
    """(class, file below root) of all samples; none may be there twice."""
    source = folder_source(root, 0.5, {})
    samples = [sample for split in source.splits.values() for sample in split]
    found = {(source.classes[s.label].id, str(Path(s.location).relative_to(root))) for s in samples}
    assert len(found) == len(samples)
    return found


def test_links_to_folders_that_are_there_already(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listed(plain)
    assert capsys.readouterr().err == ""
    targets = ["..", ".", "deep", "../b", "../b/deep", "../..", "/"]
    for n, target in enumerate(targets):
        (plain / "a" / f"link{n}").symlink_to(target)
    (plain / "a" / "deep" / "up").symlink_to(plain, target_is_directory=True)
    assert listed(plain) == before
    line = f"{plain}: left out: symbolic link to a folder that is there already (8)\n"
    assert capsys.readouterr().err == line


def test_a_link_is_followed_once_to_what_lies_elsewhere(plain: Path, tmp_path: Path) -> None:
    before = listed(plain)
    (tmp_path / "more" / "deep").mkdir(parents=True)
    (tmp_path / "more" / "deep" / "x.jpg").write_bytes(b"image")
    (tmp_path / "more" / "deep" / "up").symlink_to("../..")
    (plain / "a" / "one").symlink_to(tmp_path / "more")
    (plain / "a" / "two").symlink_to(tmp_path / "more" / "deep")
    (plain / "a" / "three").symlink_to("one")
    assert listed(plain) == before | {("a", "a/one/deep/x.jpg")}
    (plain / "b" / "four").symlink_to(tmp_path / "more")
    with pytest.raises(UserError, match=r"b/four: the same folder is in the class folder .*/a,"):
        listed(plain)


def test_a_class_folder_may_be_a_link_but_not_to_another(plain: Path, tmp_path: Path) -> None:
    (plain / "b").rename(tmp_path / "elsewhere")
    (plain / "b").symlink_to(tmp_path / "elsewhere")
    assert len(listed(plain)) == 20
    for target in (plain / "a", plain / "a" / "deep"):
        (plain / "c").symlink_to(target)
        with pytest.raises(UserError, match=r"the same folder is in the class folder .*; re"):
            listed(plain)
        (plain / "c").unlink()


def test_validation_does_not_get_training_images_by_a_link(plain: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "both" / split / name).mkdir(parents=True)
            (tmp_path / "both" / split / name / f"{split}.jpg").write_bytes(b"image")
    (tmp_path / "both" / "val" / "a" / "more").symlink_to("../../train/a")
    (tmp_path / "both" / "train" / "b" / "more").symlink_to("../../val")
    source = folder_source(tmp_path / "both", 0.5, {})
    assert [len(source.splits[split]) for split in ("train", "val")] == [2, 2]


def test_hidden_and_system_folders_are_not_entered(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listed(plain)
    names = [".git", ".thumbnails", ".ipynb_checkpoints", "@eaDir", "__MACOSX", "#recycle",
             "$RECYCLE.BIN", "System Volume Information", "lost+found"]  # fmt: skip
    assert {name.lower() for name in names if name[0] != "."} <= SYSTEM_FOLDERS
    for name in names:
        for place in (plain, plain / "a", plain / "b" / "deep"):
            (place / name / "x").mkdir(parents=True)
            (place / name / "thumb.jpg").write_bytes(b"image")
            (place / name / "x" / "thumb.jpg").write_bytes(b"image")
    assert listed(plain) == before
    assert (
        f"{plain}: left out: #recycle/ (3), $RECYCLE.BIN/ (3), @eaDir/ (3)"
        in capsys.readouterr().err
    )
    assert len(class_images(plain)[1]) == 20


JUNK = ("Thumbs.db", "THUMBS.DB", "desktop.ini", ".DS_Store", "Desktop.ini", "0.txt", "0.jpg.txt",
        "0.json", "0.XML", "metadata.csv", "labels.tsv", "README", "readme.md", "Icon\r", "._0.jpg",
        "list.jsonl", "clip.mp4", "backup.zip", "IMG.THM", "IMG.AAE")  # fmt: skip
PHOTOGRAPHS = ("bare", "IMG_0001", "x.JPEG", "x.jfif", "photo.v2", "12.5", "x.jpg_large", "x.heic")


def test_files_that_nobody_means_as_photographs_are_left_out_and_counted(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = listed(plain)
    for name in JUNK:
        for place in (plain, plain / "a", plain / "b" / "deep"):
            (place / name).write_bytes(b"no image")
    for name in PHOTOGRAPHS:
        (plain / "a" / name).write_bytes(b"image")
    assert listed(plain) == before | {("a", f"a/{name}") for name in PHOTOGRAPHS}
    assert capsys.readouterr().err == (
        f"{plain}: left out: .aae (2), .csv (2), .db (4), .ini (4), .json (2), .jsonl (2), "
        ".md (2), .mp4 (2), .thm (2), .tsv (2), .txt (4), .xml (2), .zip (2), Icon (2), "
        "README (2)\n"
    )


def test_what_is_no_regular_file_is_quarantined_unopened(plain: Path) -> None:
    os.mkfifo(plain / "a" / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(plain / "a" / "socket"))
    (plain / "a" / "zero.png").symlink_to("/dev/zero")
    (plain / "a" / "nowhere.jpg").symlink_to("nothing")
    (plain / "a" / "loop.jpg").symlink_to("loop.jpg")
    source = folder_source(plain, 0.5, {})
    samples = [sample for split in source.splits.values() for sample in split]
    (plain / RECORDS).mkdir()
    (plain / "train").mkdir()
    shard, _ = pack_shard(source.reader, ShardPlan("train", 0, samples, 64), plain)
    reasons = {
        Path(row["file"]).name: row["reason"]
        for row in shard.refused
        if row["kind"] == "unreadable"
    }
    assert reasons.keys() == {"pipe.jpg", "socket", "zero.png", "nowhere.jpg", "loop.jpg"}
    for name in ("pipe.jpg", "socket", "zero.png"):
        assert "not a regular file" in reasons[name]


def test_a_pipe_is_no_shard(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(UserError, match=r"a\.tar: .* \(not a regular file\)"):
        shards_source(tmp_path, 0.5, {})


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user whom permissions bind; root's they do not."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own ones belong to one user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for split in ("train", "val"):
            for path in (folder / split / "a" / "deep", folder / split / "b" / "deep"):
                path.mkdir(parents=True)
                for n in range(3):
                    (path / f"{n}.jpg").write_bytes(b"image")
        (folder / "plain").symlink_to("train")
        yield folder
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


@pytest.mark.parametrize("place", [".", "train", "train/a", "train/a/deep", "val/b", "val/b/deep"])
@pytest.mark.parametrize("mode", [0, stat.S_IXUSR | stat.S_IXOTH])
def test_a_folder_that_may_not_be_read_is_named(public: Path, place: str, mode: int) -> None:
    (public / place).chmod(mode)
    text = rf"{re.escape(str(public / place))}: cannot be read \(Permission denied\); make it"
    with without_privileges(), pytest.raises(UserError, match=text):
        open_source(str(public), 0.5, None)


def test_a_folder_inside_one_that_may_not_be_entered_is_named(public: Path) -> None:
    (public / "train").chmod(0o444)
    with (
        without_privileges(),
        pytest.raises(UserError, match=r"/a: cannot be read \(Perm"),
    ):
        open_source(str(public / "train" / "a"), 0.5, None)
    with (
        without_privileges(),
        pytest.raises(UserError, match=r"train/.*: cannot be read \("),
    ):
        open_source(str(public), 0.5, None)


def test_a_file_that_may_not_be_read_is_quarantined(public: Path) -> None:
    (public / "train" / "a" / "deep" / "1.jpg").chmod(0)
    source = folder_source(public, 0.5, {})
    sample = next(s for s in source.splits["train"] if s.key == "a/deep/1")
    with without_privileges(), pytest.raises(PermissionError):
        source.reader.read(sample.location)


def test_shards_in_a_folder_that_may_not_be_read(public: Path, tar: Callable[..., bytes]) -> None:
    (public / "valid").mkdir()
    (public / "x.tar").write_bytes(tar({"0.jpg": b"", "0.cls": b"0", "1.jpg": b"", "1.cls": b"1"}))
    (public / "val").rename(public / "plain-val")
    (public / "valid").chmod(0)
    with without_privileges(), pytest.raises(UserError, match=r"valid: cannot be read \(Permi"):
        open_source(str(public), 0.5, None)


TRAIN = st.sampled_from(["train", "Train", "TRAINING", "training_set"])
VAL = st.sampled_from([None, "val", "valid", "Validation", "DEV", "eval-set"])
TEST = st.sampled_from([None, "test", "Testing", "TEST_SET"])
CLASSES = st.sets(st.sampled_from(["cat", "dog", "n01440764", "train", "test", "valid", "dev"]))
NOISE = st.lists(
    st.sampled_from(["Thumbs.db", "desktop.ini", "1.txt", "@eaDir/1.jpg", ".git/1.jpg", "x/.2.jpg",
                     "__MACOSX/x/1.jpg", "x/metadata.csv", "-> .", "-> ..", "-> ../..", "x/-> ..",
                     "-> ../cat", "x/-> /"])
)  # fmt: skip
IMAGES = st.sets(st.sampled_from(["1.jpg", "2.PNG", "bare", "x/1.jpg", "x/y/3"]), min_size=2)


def build(folder: Path, images: set[str], noise: list[str]) -> None:
    for name in images:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"image")
    for number, name in enumerate(noise):
        place, arrow, target = name.partition("-> ")
        path = folder / place / (f"link{number}" if arrow else "")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not arrow:
            path.write_bytes(b"noise")
        elif (path.parent / target).exists():
            path.symlink_to(target)


@settings(max_examples=30)  # each a tree of files
@given(TRAIN, VAL, TEST, CLASSES, IMAGES, NOISE)
@example("train", None, None, {"cat", "dog"}, {"1.jpg", "x/1.jpg"}, ["x/-> ..", "-> ../cat"])
def test_folders_of_splits_give_their_images_in_their_classes(
    train: str, val: str | None, test: str | None, classes: set[str], images: set[str],
    noise: list[str],
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        for split in filter(None, (train, val, test)):
            for class_id in sorted(classes):
                build(root / split / class_id, images, noise)
        if len(classes) < 2:
            with pytest.raises(UserError):
                open_source(name, 0.5, None)
            return
        source = open_source(name, 0.5, None)
        assert [c.id for c in source.classes] == sorted(classes)
        found = {
            split: sorted((source.classes[s.label].id, s.location) for s in samples)
            for split, samples in source.splits.items()
        }

    def intended(split: str) -> list[tuple[str, str]]:
        return sorted((c, str(root / split / c / image)) for c in classes for image in images)

    if val:
        assert found == {"train": intended(train), "val": intended(val)}
    else:
        assert sorted(found["train"] + found["val"]) == intended(train)


@settings(max_examples=30)
@given(CLASSES, TEST, IMAGES, NOISE)
def test_class_folders_give_their_images_or_two_readings(
    classes: set[str], test: str | None, images: set[str], noise: list[str]
) -> None:
    assume("-> ../cat" not in noise)  # of train/ and dev/ it would be a second class
    plain = classes - {"train", "test", "valid", "dev"}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        for class_id in sorted({*classes, test} - {None}, key=str):
            build(root / class_id, images, noise)
        if len(plain) < 2 or classes & {"train", "valid", "dev"}:
            with pytest.raises(UserError):
                open_source(name, 0.5, None)
            return
        source = open_source(name, 0.5, None)
        found = [
            (source.classes[s.label].id, s.location)
            for samples in source.splits.values()
            for s in samples
        ]
    assert [c.id for c in source.classes] == sorted(plain)
    assert sorted(found) == sorted((c, str(root / c / image)) for c in plain for image in images)
