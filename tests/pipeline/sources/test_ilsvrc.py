"""ILSVRC-2012 as distributed, in small: real photographs and file names, the real structure.

The devkit numbers its classes in an order of its own. Here it is scrambled so that no class has
the same place in both numberings: one taken for the other shows in every image.
"""

import io
import os
import re
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from pipeline.manifest import DatasetError
from pipeline.sources import ilsvrc, open_source
from pipeline.sources.ilsvrc import DEVKIT, GROUND_TRUTH, META, TRAIN, VAL, ilsvrc_source

DEVKIT_ORDER = (3, 0, 4, 1, 2)  # place among the sorted WNIDs of devkit ids 1, 2, ...


class Archive:
    """A small ILSVRC-2012 in `folder`, and what is true of it."""

    def __init__(self, folder: Path, imagenette: Path, tar: Callable[..., bytes]) -> None:
        self.folder, self.tar = folder, tar
        self.wnids = sorted(path.name for path in (imagenette / "train").iterdir())[:5]
        self.train = {w: sorted((imagenette / "train" / w).glob("n*"))[:6] for w in self.wnids}
        self.val = {
            image: wnid
            for wnid in self.wnids
            for image in sorted((imagenette / "val" / wnid).iterdir())[:4]
        }
        # The real numbers are up to 50,000: here they count, in an order mixed over the classes.
        numbered = enumerate(sorted(self.val, key=lambda path: path.name[::-1]), 1)
        self.number = {f"ILSVRC2012_val_{n:08d}": path for n, path in numbered}

    def write(self, backwards: bool = False) -> Path:
        """`backwards` writes the members of every archive in the other order."""
        step = -1 if backwards else 1
        inner = {
            f"{wnid}.tar": self.tar({path.name: path.read_bytes() for path in images[::step]})
            for wnid, images in self.train.items()
        }
        val = {f"{name}.JPEG": path.read_bytes() for name, path in self.number.items()}
        (self.folder / TRAIN).write_bytes(self.tar(dict([*inner.items()][::step])))
        (self.folder / VAL).write_bytes(self.tar(dict([*val.items()][::step])))
        (self.folder / META).write_bytes(self.meta())
        (self.folder / GROUND_TRUTH).write_bytes(self.ground_truth())
        return self.folder

    def ground_truth(self) -> bytes:
        devkit_id = {self.wnids[place]: i for i, place in enumerate(DEVKIT_ORDER, 1)}
        return "".join(f"{devkit_id[self.val[p]]}\n" for p in self.number.values()).encode()

    def meta(self) -> bytes:
        leaves = [(self.wnids[place], 0) for place in DEVKIT_ORDER]
        inner = [("n00001740", 2), ("n02084071", 3)]
        return meta([(i, wnid, n) for i, (wnid, n) in enumerate(leaves + inner, 1)])


def meta(synsets: list[tuple[int, str, int]]) -> bytes:
    """MATLAB struct array of (devkit id, WNID, number of children), as in the devkit."""
    fields = (
        "ILSVRC2012_ID", "WNID", "words", "gloss",
        "num_children", "children", "wordnet_height", "num_train_images",
    )  # fmt: skip
    rows = np.zeros((len(synsets), 1), [(field, object) for field in fields])
    for row, (i, wnid, children) in zip(rows[:, 0], synsets, strict=True):
        children_ids = np.arange(children, dtype=np.uint8)
        values = (i, wnid, f"word of {wnid}, other", "gloss", children, children_ids, 0, 1300)
        for field, value in zip(fields, values, strict=True):
            row[field] = float(value) if isinstance(value, int) else value
    file = io.BytesIO()
    savemat(file, {"synsets": rows})
    return file.getvalue()


@pytest.fixture
def archive(tmp_path: Path, test_data: Path, tar: Callable) -> Archive:
    made = Archive(tmp_path / "ilsvrc", test_data / "imagenette", tar)
    made.folder.mkdir()
    made.write()
    return made


def test_every_image_has_the_label_of_its_class_and_its_bytes(archive: Archive) -> None:
    source = open_source(str(archive.folder), 0.1, None)
    val = {sample.key: sample for sample in source.splits["val"]}
    assert len(val) == len(archive.number) == 20
    for name, path in archive.number.items():
        sample = val[f"{archive.val[path]}/{name}"]
        assert source.classes[sample.label].id == archive.val[path]
        assert source.reader.read(sample.location) == path.read_bytes()
    train = {sample.key: sample for sample in source.splits["train"]}
    assert len(train) == sum(map(len, archive.train.values())) == 30
    for wnid, images in archive.train.items():
        for path in images:
            sample = train[f"{wnid}/{path.stem}"]
            assert source.classes[sample.label].id == wnid
            assert source.reader.read(sample.location) == path.read_bytes()


def test_labels_are_the_order_of_the_wnids_not_the_ids_of_the_devkit(archive: Archive) -> None:
    assert all(place != number for number, place in enumerate(DEVKIT_ORDER))
    source = ilsvrc_source(archive.folder, {archive.wnids[1]: "a name"})
    assert [c.id for c in source.classes] == archive.wnids
    assert [c.name for c in source.classes][:2] == [f"word of {archive.wnids[0]}, other", "a name"]
    ids = list(map(int, archive.ground_truth().split()))
    for sample in source.splits["val"]:
        number = int(sample.key[-8:])
        assert sample.label == DEVKIT_ORDER[ids[number - 1] - 1] != ids[number - 1] - 1


def test_nothing_is_written_and_the_order_of_members_is_no_matter(archive: Archive) -> None:
    before = {path: path.stat().st_mtime_ns for path in archive.folder.rglob("*")}
    forward = ilsvrc_source(archive.folder, {}).splits
    assert {path: path.stat().st_mtime_ns for path in archive.folder.rglob("*")} == before
    archive.write(backwards=True)
    backward = ilsvrc_source(archive.folder, {}).splits
    for split in forward:
        names = [(s.key, s.label) for s in forward[split]]
        assert names == [(s.key, s.label) for s in backward[split]]
        assert [s.location for s in forward[split]] != [s.location for s in backward[split]]
    labels = [sample.label for sample in forward["train"]]
    assert labels != sorted(labels)


@pytest.mark.parametrize("packed", [False, True])
def test_the_devkit_as_downloaded_or_unpacked(archive: Archive, packed: bool) -> None:
    expected = ilsvrc_source(archive.folder, {}).splits
    for name in (META, GROUND_TRUTH):
        (archive.folder / DEVKIT / "data").mkdir(parents=True, exist_ok=True)
        (archive.folder / name).rename(archive.folder / DEVKIT / "data" / name)
    if packed:
        with tarfile.open(archive.folder / f"{DEVKIT}.tar.gz", "w:gz") as kit:
            kit.add(archive.folder / DEVKIT, DEVKIT)
        (archive.folder / DEVKIT).rename(archive.folder / "elsewhere")
    assert ilsvrc_source(archive.folder, {}).splits == expected


def test_a_name_twice_makes_one_image(archive: Archive) -> None:
    wnid = archive.wnids[0]
    images = [path.read_bytes() for path in archive.train[wnid]]
    inner = {"a/x.JPEG": images[0], "b/x.JPEG": images[1], "y.JPEG": images[2]}
    others = {f"{w}.tar": archive.tar({"z.JPEG": images[3]}) for w in archive.wnids[1:]}
    (archive.folder / TRAIN).write_bytes(archive.tar({f"{wnid}.tar": archive.tar(inner)} | others))
    keys = [sample.key for sample in ilsvrc_source(archive.folder, {}).splits["train"]]
    assert sorted(keys) == [f"{wnid}/x", f"{wnid}/y", *(f"{w}/z" for w in archive.wnids[1:])]


def refused(archive: Archive, text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        ilsvrc_source(archive.folder, {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (VAL, r"img_val\.tar: the file is missing; .* put it beside ILSVRC2012_img_train\.tar"),
        (META, r"meta\.mat: the file is missing, and so is ILSVRC2012_devkit_t12\.tar\.gz, .* put"),
        (GROUND_TRUTH, r"ground_truth\.txt: the file is missing, and so is .* put it beside"),
    ],
)
def test_a_missing_file_is_named(archive: Archive, name: str, text: str) -> None:
    (archive.folder / name).unlink()
    refused(archive, text)


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda lines: lines[:-1], r"holds 20 images, but .*_truth\.txt has 19 lines; use the"),
        (lambda lines: [*lines, b"1"], r"holds 20 images, but .*_truth\.txt has 21 lines"),
        (
            lambda lines: [*lines[:4], b"6", *lines[5:]],
            r"_truth\.txt, line 5: '6' is not a class number",
        ),
        (
            lambda lines: [b"0", *lines[1:]],
            r"line 1: '0' is not a class number from 1 to 5; downlo",
        ),
        (lambda lines: [*lines[:2], b"x\xff", *lines[3:]], r"line 3: 'x�' is not a class number"),
        (lambda lines: [*lines[:2], b"", *lines[3:]], "line 3: '' is not a class number"),
    ],
)
def test_a_wrong_ground_truth_is_refused(archive: Archive, edit, text: str) -> None:  # type: ignore[no-untyped-def]
    path = archive.folder / GROUND_TRUTH
    path.write_bytes(b"\n".join(edit(path.read_bytes().splitlines())) + b"\n")
    refused(archive, text)


def test_wrong_classes_are_refused(archive: Archive) -> None:
    first, *others = archive.wnids
    (archive.folder / META).write_bytes(meta([(1, first, 0), (3, others[0], 0)]))
    refused(archive, r"meta\.mat: its 2 classes are not numbered 1 to 2; use ILSVRC2012_devkit")
    (archive.folder / META).write_bytes(b"MATLAB 5.0 MAT-file, they say" * 50)
    refused(archive, r"meta\.mat: cannot read `synsets` \(.*\); download the dev")
    wnids = [*archive.wnids[:4], "n09999999"]
    (archive.folder / META).write_bytes(meta([(i, w, 0) for i, w in enumerate(wnids, 1)]))
    refused(
        archive, rf"img_train\.tar: .* holds {others[-1]}\.tar, which is no class of meta\.mat; use"
    )
    wnids = [*archive.wnids, "n09999999"]
    (archive.folder / META).write_bytes(meta([(i, w, 0) for i, w in enumerate(wnids, 1)]))
    refused(
        archive,
        r"img_train\.tar: the archive lacks n09999999\.tar, a class of meta\.mat; download it",
    )


def test_wrong_archives_are_refused(archive: Archive) -> None:
    path = archive.folder / VAL
    whole = path.read_bytes()
    path.write_bytes(archive.tar({"ILSVRC2012_test_00000001.JPEG": b"x"}))
    refused(archive, r"img_val\.tar: .* holds ILSVRC2012_test_00000001\.JPEG, which is not named")
    path.write_bytes(archive.tar({f"ILSVRC2012_val_{n:08d}.JPEG": b"x" for n in range(2, 22)}))
    refused(archive, r"img_val\.tar: .* holds ILSVRC2012_val_00000021\.JPEG, but .* only 20 lines")
    path.write_bytes(whole[: len(whole) // 2])
    refused(archive, r"img_val\.tar: this is not a complete tar .*; download or copy it again")
    path.write_bytes(whole)
    os.truncate(archive.folder / TRAIN, (archive.folder / TRAIN).stat().st_size // 2)
    refused(archive, r"img_train\.tar: this is not a complete tar .*; download or copy it again")
    empty = {f"{wnid}.tar": archive.tar({}) for wnid in archive.wnids}
    (archive.folder / TRAIN).write_bytes(archive.tar(empty))
    refused(
        archive,
        rf"img_train\.tar: {archive.wnids[0]}\.tar in this archive is empty; download it again",
    )


def test_a_broken_devkit_is_refused(archive: Archive) -> None:
    (archive.folder / META).unlink()
    noise = np.random.default_rng(0).bytes(100_000)
    whole = archive.tar({f"{DEVKIT}/data/{META}": noise}, mode="w:gz")
    for content in (archive.tar({"other": b""}, mode="w:gz"), whole[:50_000], b"no archive"):
        (archive.folder / f"{DEVKIT}.tar.gz").write_bytes(content)
        refused(
            archive, r"t12\.tar\.gz: meta\.mat cannot be read from it \(.+\); download it again"
        )


def packed_meta(size: int) -> bytes:
    """A MAT file that unpacks to a text of so many characters."""
    file = io.BytesIO()
    savemat(file, {"synsets": np.zeros(size, np.uint8)}, do_compression=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (META, "many", r"cannot read `synsets` \((Memory|Value|OS)Error"),
        (META, "zeros", r"cannot read `synsets` \((Memory|Value)Error"),
        (META, "hole", r"cannot be read \(it has 100,000,000,000 bytes; the limit is 64,000,000\)"),
        (GROUND_TRUTH, "hole", r"cannot be read \(it has 100,000,000,000 bytes; the limit is"),
    ],
)
def test_a_devkit_that_claims_to_be_large_is_refused(
    archive: Archive, name: str, content: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ilsvrc, "MAX_META_BYTES", 10**8)
    path = archive.folder / name
    if content == "hole":
        os.truncate(path, 10**11)
    elif content == "zeros":
        path.write_bytes(packed_meta(150_000_000))
    else:
        dimensions = struct.pack("<ii", len(DEVKIT_ORDER) + 2, 1)
        path.write_bytes(archive.meta().replace(dimensions, struct.pack("<ii", 2**31 - 1, 1), 1))
    refused(archive, rf"{re.escape(name)}: {reason}.*; download (the development kit|it) again")


def test_a_devkit_that_unpacks_to_too_much_is_refused(archive: Archive) -> None:
    (archive.folder / META).unlink()
    (archive.folder / f"{DEVKIT}.tar.gz").write_bytes(
        archive.tar({f"{DEVKIT}/data/{META}": bytes(65_000_000)}, mode="w:gz")
    )
    refused(archive, r"meta\.mat cannot be read from it \(it unpacks to more than 64,000,000 bytes")
