"""ILSVRC-2010 and ILSVRC-2012 as distributed, in small."""

import io
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from pipeline.sources import devkit, open_source
from pipeline.sources.devkit import META, YEARS
from pipeline.sources.folder import class_images
from pipeline.sources.ilsvrc import PATCHES, archive_images, find_year
from pipeline.sources.ilsvrc import ilsvrc_source as source_of
from pipeline.sources.source import Source
from pipeline.sources.tar import Members
from tests.pipeline.sources.archives import DEVKIT_ORDER, Archive, meta, tar


def ilsvrc_source(archive: Archive) -> Source:
    return source_of(archive.folder, archive.year, {})


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
    source = source_of(archive.folder, archive.year, {archive.wnids[1]: "a name"})
    assert [c.id for c in source.classes] == archive.wnids
    assert [c.name for c in source.classes][:2] == [f"word of {archive.wnids[0]}, other", "a name"]
    ids = list(map(int, archive.ground_truth().split()))
    for sample in source.splits["val"]:
        number = int(sample.key[-8:])
        assert sample.label == DEVKIT_ORDER[ids[number - 1] - 1] != ids[number - 1] - 1


def test_nothing_is_written_and_the_order_of_members_is_no_matter(archive: Archive) -> None:
    before = {path: path.stat().st_mtime_ns for path in archive.folder.rglob("*")}
    forward = ilsvrc_source(archive).splits
    assert {path: path.stat().st_mtime_ns for path in archive.folder.rglob("*")} == before
    archive.write(backwards=True)
    backward = ilsvrc_source(archive).splits
    for split in forward:
        names = [(s.key, s.label) for s in forward[split]]
        assert names == [(s.key, s.label) for s in backward[split]]
        assert [s.location for s in forward[split]] != [s.location for s in backward[split]]
    labels = [sample.label for sample in forward["train"]]
    assert labels != sorted(labels)


def test_the_devkit_unpacked(archive: Archive) -> None:
    expected = ilsvrc_source(archive).splits
    for unpacked in archive.year.kits:
        data = archive.folder / unpacked / "data"
        data.mkdir(parents=True)
        for name in (META, archive.year.ground_truth("val")):
            (archive.folder / name).rename(data / name)
        assert ilsvrc_source(archive).splits == expected
        for path in data.iterdir():
            path.rename(archive.folder / path.name)


@pytest.mark.parametrize("root", ["", "devkit-1.0/", "./ILSVRC2012_devkit_t12/"])
def test_the_devkit_as_downloaded(archive: Archive, root: str) -> None:
    expected = ilsvrc_source(archive).splits
    for kit in archive.year.kits:
        packed = archive.pack_devkit(root, f"{kit}.tar.gz")
        assert ilsvrc_source(archive).splits == expected
        packed.unlink()
        archive.write()


def test_the_training_images_tell_the_year(archive: Archive) -> None:
    assert find_year(archive.folder.iterdir()) is archive.year
    assert find_year([archive.folder / archive.year.val]) is None


@pytest.mark.slow
def test_the_dataset_is_that_of_class_folders(
    archive: Archive, tmp_path: Path, run_on_cluster: Callable
) -> None:
    """To the byte, but for the names of the classes, and what the manifest says of the source."""
    folders = archive.in_class_folders(tmp_path / "folders")
    words = tmp_path / "words.txt"
    words.write_text("".join(f"{wnid}\tword of {wnid}, other\n" for wnid in archive.wnids))
    packed = []
    for source, more in ((archive.folder, ()), (folders, ("--class-names", words))):
        packed.append(tmp_path / f"packed{len(packed)}")
        done = run_on_cluster("pipeline", "pack", source, packed[-1], "--size", 64, *more)
        assert done.returncode == 0, done.stderr
    ours, theirs = (Dataset(path).manifest.model_dump(exclude={"source"}) for path in packed)
    assert ours == theirs
    files = {path.relative_to(packed[0]) for path in packed[0].rglob("*") if path.is_file()}
    assert len(files) > 6
    for name in files - {Path("manifest.json")}:
        assert (packed[0] / name).read_bytes() == (packed[1] / name).read_bytes()


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_images_of_an_archive_are_those_of_class_folders(
    archive: Archive, tmp_path: Path, split: str
) -> None:
    folders = archive.in_class_folders(tmp_path / "folders") / split
    ids, expected = class_images(folders)
    path = archive.test_tar if split == "test" else archive.folder / archive.year.val
    found_ids, found = archive_images(path)
    assert (found_ids, [s[:2] for s in found]) == (ids, [s[:2] for s in expected])
    for ours, theirs in zip(found, expected, strict=True):
        assert Members().read(ours.location) == Path(theirs.location).read_bytes()


def test_patches_take_the_place_of_images_of_their_names(archive: Archive) -> None:
    wnid, names = archive.wnids[0], (next(iter(archive.test_number)), next(iter(archive.number)))
    images = {f"train/{archive.train[wnid][0].name}": b"train"}
    images |= {f"x/{name}.JPEG": name.encode() for name in names}
    (archive.folder / PATCHES).write_bytes(tar(images))
    splits = ilsvrc_source(archive).splits
    samples = [*splits["train"], *splits["val"], *archive_images(archive.test_tar)[1]]
    read = [Members().read(sample.location) for sample in samples]
    assert sorted(data for data in read if len(data) < 100) == [*map(str.encode, names), b"train"]


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (lambda a, t: t.unlink(), "_test_ground_truth.txt: the file is missing; put the labels of"),
        (
            lambda a, t: t.write_bytes(b"1\n"),
            "holds 15 images, but .* has 1 lines; use the",
        ),
        (lambda a, t: t.write_bytes(b"9\n"), "line 1: '9' is not a class number from 1 to 5"),
        (lambda a, t: (a.folder / META).unlink(), r"meta\.mat: the file is missing, and so is"),
        (
            lambda a, t: os.truncate(a.test_tar, 9000),
            "test.tar: this is not a complete tar",
        ),
        (
            lambda a, t: a.test_tar.write_bytes(tar({})),
            "holds no file, and no images of ILSVRC",
        ),
        (
            lambda a, t: a.test_tar.write_bytes(tar({"1.jpg": b""})),
            "holds 1.jpg, and no images of ILSVRC2010 or ILSVRC2012 to be validated or tested on; "
            "unpack it, and give a folder",
        ),
        (
            lambda a, t: a.test_tar.write_bytes(
                tar({f"{a.year.name}_{s}_00000001.JPEG": b"" for s in ("test", "val")})
            ),
            "holds ILSVRC201._val_00000001.JPEG, which is not named ILSVRC201._test_NUMBER.JPEG",
        ),
    ],
)
def test_a_wrong_test_archive_is_refused(archive: Archive, edit, text: str) -> None:  # type: ignore[no-untyped-def]
    edit(archive, archive.folder / archive.year.ground_truth("test"))
    with pytest.raises(DatasetError, match=text):
        archive_images(archive.test_tar)


def test_the_devkit_of_another_year_is_refused(archive: Archive) -> None:
    other = next(year for year in YEARS if year is not archive.year)
    (archive.folder / META).write_bytes(meta([(1, archive.wnids[0], 0)], other.name))
    refused(
        archive, rf"`synsets` \(.*\); download the development kit of {archive.year.name} again"
    )


def test_a_name_twice_makes_one_image(archive: Archive) -> None:
    wnid = archive.wnids[0]
    images = [path.read_bytes() for path in archive.train[wnid]]
    inner = {"a/x.JPEG": images[0], "b/x.JPEG": images[1], "y.JPEG": images[2]}
    others = {f"{w}.tar": tar({"z.JPEG": images[3]}) for w in archive.wnids[1:]}
    (archive.folder / archive.year.train).write_bytes(tar({f"{wnid}.tar": tar(inner)} | others))
    keys = [sample.key for sample in ilsvrc_source(archive).splits["train"]]
    assert sorted(keys) == [f"{wnid}/x", f"{wnid}/y", *(f"{w}/z" for w in archive.wnids[1:])]


def refused(archive: Archive, text: str) -> None:
    with pytest.raises(DatasetError, match=text):
        ilsvrc_source(archive)


def test_a_missing_file_is_named(archive: Archive) -> None:
    year = archive.year
    for name, text in (
        (year.ground_truth("val"), r"ground_truth\.txt: the file is missing, and so is .* put it"),
        (year.val, rf"{year.val}: the file is missing; .* put it beside {year.train}"),
        (META, rf"meta\.mat: the file is missing, and so is {year.kits[0]}\.tar\.gz, .* put it"),
    ):
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
    path = archive.folder / archive.year.ground_truth("val")
    path.write_bytes(b"\n".join(edit(path.read_bytes().splitlines())) + b"\n")
    refused(archive, text)


def write_meta(archive: Archive, wnids: list[str]) -> None:
    synsets = [(i, wnid, 0) for i, wnid in enumerate(wnids, 1)]
    (archive.folder / META).write_bytes(meta(synsets, archive.year.name))


def test_wrong_classes_are_refused(archive: Archive) -> None:
    first, *others = archive.wnids
    (archive.folder / META).write_bytes(meta([(1, first, 0), (3, others[0], 0)], archive.year.name))
    refused(archive, r"meta\.mat: its 2 classes are not numbered 1 to 2; use ILSVRC201._devkit")
    (archive.folder / META).write_bytes(b"MATLAB 5.0 MAT-file, they say" * 50)
    refused(archive, r"meta\.mat: cannot read `synsets` \(.*\); download the dev")
    wnids = [*archive.wnids[:4], "n09999999"]
    (archive.folder / META).write_bytes(
        meta([(i, w, 0) for i, w in enumerate(wnids, 1)], archive.year.name)
    )
    refused(
        archive, rf"_train\.tar: .* holds {others[-1]}\.tar, which is no class of meta\.mat; use"
    )
    wnids = [*archive.wnids, "n09999999"]
    (archive.folder / META).write_bytes(
        meta([(i, w, 0) for i, w in enumerate(wnids, 1)], archive.year.name)
    )
    refused(
        archive,
        r"_train\.tar: the archive lacks n09999999\.tar, a class of meta\.mat; download it",
    )


def test_wrong_archives_are_refused(archive: Archive) -> None:
    path = archive.folder / archive.year.val
    whole = path.read_bytes()
    path.write_bytes(tar({f"{archive.year.name}_test_00000001.JPEG": b"x"}))
    refused(archive, r"_val\.tar: .* holds ILSVRC201._test_00000001\.JPEG, which is not named")
    path.write_bytes(tar({f"{archive.year.name}_val_{n:08d}.JPEG": b"x" for n in range(2, 22)}))
    refused(archive, r"_val\.tar: .* holds ILSVRC201._val_00000021\.JPEG, but .* only 20 lines")
    path.write_bytes(whole[: len(whole) // 2])
    refused(archive, r"_val\.tar: this is not a complete tar .*; download or copy it again")
    path.write_bytes(whole)
    train = archive.folder / archive.year.train
    os.truncate(train, train.stat().st_size // 2)
    refused(archive, r"_train\.tar: this is not a complete tar .*; download or copy it again")
    empty = {f"{wnid}.tar": tar({}) for wnid in archive.wnids}
    train.write_bytes(tar(empty))
    refused(
        archive,
        rf"_train\.tar: {archive.wnids[0]}\.tar in this archive is empty; download it again",
    )


def test_a_broken_devkit_is_refused(archive: Archive) -> None:
    (archive.folder / META).unlink()
    noise = np.random.default_rng(0).bytes(100_000)
    whole = tar({f"{archive.year.kits[0]}/data/{META}": noise}, mode="w:gz")
    for content in (tar({"other": b""}, mode="w:gz"), whole[:50_000], b"no archive"):
        (archive.folder / f"{archive.year.kits[0]}.tar.gz").write_bytes(content)
        refused(archive, r"\.tar\.gz: meta\.mat cannot be read from it \(.+\); download it again")


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
        ("ground truth", "hole", r"cannot be read \(it has 100,000,000,000 bytes; the limit is"),
    ],
)
def test_a_devkit_that_claims_to_be_large_is_refused(
    archive: Archive, name: str, content: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devkit, "MAX_META_BYTES", 10**8)
    name = archive.year.ground_truth("val") if name == "ground truth" else name
    path = archive.folder / name
    if content == "hole":
        os.truncate(path, 10**11)
    elif content == "zeros":
        path.write_bytes(packed_meta(150_000_000))
    else:
        dimensions = struct.pack("<ii", len(DEVKIT_ORDER) + 2, 1)
        path.write_bytes(archive.meta().replace(dimensions, struct.pack("<ii", 2**31 - 1, 1), 1))
    refused(archive, rf"{re.escape(name)}: {reason}.*; download (the .*|it) again")


def test_a_devkit_that_unpacks_to_too_much_is_refused(archive: Archive) -> None:
    (archive.folder / META).unlink()
    (archive.folder / f"{archive.year.kits[0]}.tar.gz").write_bytes(
        tar({f"{archive.year.kits[0]}/data/{META}": bytes(65_000_000)}, mode="w:gz")
    )
    refused(archive, r"meta\.mat cannot be read from it \(it unpacks to more than 64,000,000 bytes")
