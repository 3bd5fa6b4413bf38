"""WebDataset shards of ours and of others, read where they lie."""

import bz2
import gzip
import json
import lzma
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import webdataset

from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from pipeline.sources import open_source
from pipeline.sources.shards import shards_source
from pipeline.sources.source import Source


@pytest.fixture
def write(tmp_path: Path, tar: Callable[..., bytes]) -> Callable[..., Path]:
    """{shard: {member: content}} -> a folder of these shards."""

    def shards(files: dict[str, dict[str, bytes]]) -> Path:
        for name, members in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(tar(members))
        return tmp_path

    return shards


def samples(labels: str, start: int = 0) -> dict[str, bytes]:
    """An image and its label for each digit."""
    return {
        name: data
        for number, label in enumerate(labels, start)
        for name, data in ((f"{number:03d}.jpg", b"jpeg"), (f"{number:03d}.cls", label.encode()))
    }


def test_a_packed_dataset_is_a_source_again(dataset: Path) -> None:
    packed, source = Dataset(dataset), open_source(str(dataset), 0.1, None)
    assert source.classes == packed.manifest.classes
    for split in (packed.train, packed.val):
        found = source.splits["train" if split is packed.train else "val"]
        images = {(source.reader.read(s.location), s.label) for s in found}
        expected = {(bytes(split.jpeg(n)), int(split.label(n))) for n in range(len(split))}
        assert images == expected
    # In the packed order too, for both follow from the keys.
    first = source.splits["train"][0]
    assert source.reader.read(first.location) == bytes(packed.train.jpeg(0))


@pytest.mark.parametrize("field", ["cls", "json"])
def test_shards_as_the_webdataset_library_writes_them(
    tmp_path: Path, test_data: Path, field: str
) -> None:
    images = {}
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for shard in range(2):
            with webdataset.TarWriter(str(tmp_path / split / f"x-{shard:06d}.tar")) as writer:
                for label, wnid in enumerate(("n01440764", "n03888257")):
                    paths = sorted((test_data / "imagenette" / split / wnid).iterdir())
                    for path in paths[3 * shard : 3 * shard + 3]:
                        images[f"{wnid}/{path.stem}"] = (path.read_bytes(), label)
                        value = label if field == "cls" else {"label": label, "width": 224}
                        writer.write(
                            {
                                "__key__": f"{wnid}/{path.stem}",
                                "JPEG": path.read_bytes(),
                                field: value,
                            }
                        )
    source = open_source(str(tmp_path), 0.1, None)
    assert [len(source.splits[split]) for split in ("train", "val")] == [12, 12]
    found = {
        sample.key: (source.reader.read(sample.location), sample.label)
        for split in source.splits.values()
        for sample in split
    }
    assert found == images
    assert [(c.id, c.name) for c in source.classes] == [("0", "0"), ("1", "1")]


def test_without_val_a_share_is_held_out(write: Callable[..., Path]) -> None:
    folder = write({"a.tar": samples("01" * 20), "b.tar": samples("01" * 10, start=40)})
    source = open_source(str(folder), 0.1, None)
    assert sorted(sample.label for sample in source.splits["val"]) == [0] * 3 + [1] * 3
    assert len(source.splits["train"]) == 54


def test_a_name_ends_at_its_first_dot_and_fields_are_told_by_ending(
    write: Callable[..., Path],
) -> None:
    shard = {
        "./v1.0/a.seg.png": b"no image of the sample",
        "./v1.0/a.PNG": b"image 0",
        "./v1.0/a.cls": b"0\n",
        "v1.0/b.webp": b"image 1",
        "v1.0/b.json": json.dumps({"cls": 1}).encode(),
        "v1.0/b.txt": b"a caption",
        "README": b"no sample",
        ".hidden.jpg": b"no sample",
    }
    source = shards_source(write({"train/x.tar": shard, "val/x.tar": shard}), 0.1, {})
    read = [(s.key, s.label, source.reader.read(s.location)) for s in source.splits["val"]]
    assert read == [("v1_0/a", 0, b"image 0"), ("v1_0/b", 1, b"image 1")]


def test_keys_that_repeat_carry_the_name_of_their_shard(write: Callable[..., Path]) -> None:
    folder = write({f"train/s-{n}.tar": samples("01") for n in range(2)})
    write({"val/only.tar": samples("01")})
    splits = shards_source(folder, 0.1, {}).splits
    assert sorted(s.key for s in splits["train"]) == ["s-0/000", "s-0/001", "s-1/000", "s-1/001"]
    assert [s.key for s in splits["val"]] == ["000", "001"]


def test_classes_by_line_or_from_a_manifest(write: Callable[..., Path]) -> None:
    folder = write({"train/0.tar": samples("0102"), "val/0.tar": samples("2")})
    names = folder / "names.txt"
    names.write_text("n03 third of the alphabet\nn01 first\nn02 second\nn04 not in the shards\n")
    (folder / "manifest.json").write_text('{"classes": [{"id": "a", "name": "A"}], "by": "others"}')
    classes = open_source(str(folder), 0.1, names).classes
    assert [(c.id, c.name) for c in classes] == [
        ("n03", "third of the alphabet"), ("n01", "first"), ("n02", "second"),
    ]  # fmt: skip
    with pytest.raises(DatasetError, match=r"label is 2, but .*manifest\.json lists only 1 class"):
        open_source(str(folder), 0.1, None)
    names.write_text("n03 third\nn01 first\n")
    with pytest.raises(DatasetError, match=r"0\.tar:\d+:4: the label is 2, but --class-names li"):
        open_source(str(folder), 0.1, names)
    (folder / "manifest.json").write_text('{"classes": ["a", "b", "c"]}')
    with pytest.raises(
        DatasetError, match=r"manifest\.json: cannot read its classes .*; list them"
    ):
        open_source(str(folder), 0.1, None)
    (folder / "manifest.json").write_text('{"shards": 1}')
    assert [c.name for c in open_source(str(folder), 0.1, None).classes] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("shard", "text"),
    [
        (
            {"k.cls": b"0"},
            r"x\.tar, sample k: there is no image, only cls; add one as jpg, .* or ppm",
        ),
        ({"k.jpg": b""}, r"x\.tar, sample k: there is no label, only jpg; add a number as cls"),
        (
            {"k.jpg": b"", "k.cls": b"cat"},
            r"x\.tar, sample k: there is no label in cls \(b'cat' is no",
        ),
        (
            {"k.jpg": b"", "k.cls": b"-1"},
            r"k: there is no label in cls \(b'-1' is not a whole number",
        ),
        ({"k.jpg": b"", "k.cls": b""}, r"k: there is no label in cls \(b'' is not a whole number"),
        ({"k.jpg": b"", "k.cls": b"9" * 5000}, r"k: there is no label in cls \(Exceeds"),
        ({"k.jpg": b"", "k.json": b"{"}, r"k: there is no label in json \(Expecting"),
        ({"k.jpg": b"", "k.json": b"[" * 10**5}, r"k: there is no label in json \("),
        ({"k.jpg": b"", "k.json": b"[1]"}, r"k: there is no label in json \(it is not an ob"),
        ({"k.jpg": b"", "k.json": b'{"label": true}'}, r"in json \(True is not a whole number"),
        ({"k.jpg": b"", "k.json": b'{"label": "1"}'}, r"in json \('1' is not a whole number"),
        ({"k.jpg": b"", "k.json": b"{}"}, r"in json \(None is not a whole number of 0 or more"),
        ({}, "the shards hold no samples; write them again"),
        (samples("000"), "every label is 0; a classifier needs at least two classes"),
        (samples("1122"), "no training image has label 0, though labels go from 0 to 2; add"),
        (samples("0022"), "no training image has label 1, though labels go from 0 to 2"),
        (
            samples("0") | {"k.jpg": b"", "k.cls": b"9" * 99},
            "no training image has label 1, though labels go from 0 to 999",
        ),
        (samples("001"), r"x\.tar:\d+:4: this is the only image"),
        (
            {"a.b/k.jpg": b"", "a.b/k.cls": b"0", "a_b/k.jpg": b"", "a_b/k.cls": b"1"},
            r"key is a_b/k, with _ for every dot, and so is that of .*x\.tar:512:0; rename",
        ),
    ],
)
def test_what_cannot_be_used_is_named(
    write: Callable[..., Path], shard: dict[str, bytes], text: str
) -> None:
    with pytest.raises(DatasetError, match=text):
        shards_source(write({"x.tar": shard}), 0.1, {})


def test_shards_of_two_splits_in_one_folder_are_not_mixed(write: Callable[..., Path]) -> None:
    folder = write({"x-train-0.tar": samples("01"), "x-validation-0.tar": samples("01")})
    with pytest.raises(
        DatasetError, match=r"x-validation-0\.tar lies beside .*; move or link them"
    ):
        shards_source(folder, 0.1, {})
    (folder / "x-validation-0.tar").unlink()
    write({"retrieval.tar": samples("01")})
    assert len(shards_source(folder, 0.5, {}).splits["val"]) == 2


def test_a_class_in_val_alone_is_refused(write: Callable[..., Path]) -> None:
    folder = write({"train/0.tar": samples("01"), "val/0.tar": samples("2")})
    with pytest.raises(DatasetError, match="no training image has label 2"):
        shards_source(folder, 0.1, {})


@pytest.mark.parametrize(
    ("field", "content", "reason"),
    [
        ("json", b"[" * 100_000, "maximum recursion depth exceeded"),
        ("json", b'{"label":' * 100_000, "maximum recursion depth exceeded"),
        ("json", b" " * 1_000_001, "it has 1,000,001 bytes; the limit is 1,000,000"),
        ("cls", b"1" * 1_000_001, "it has 1,000,001 bytes; the limit is 1,000,000"),
        ("cls", b"1" * 5000, "Exceeds the limit"),
        ("json", b'{"label": %s}' % (b"1" * 5000), "Exceeds the limit"),
    ],
)
def test_a_label_of_any_size_and_depth_is_refused(
    write: Callable, field: str, content: bytes, reason: str
) -> None:
    folder = write({"a.tar": samples("0101") | {"9.jpg": b"jpeg", f"9.{field}": content}})
    with pytest.raises(DatasetError, match=f"sample 9: there is no label in {field} .{reason}"):
        shards_source(folder, 0.1, {})


def test_a_manifest_of_any_size_and_depth_is_refused(write: Callable) -> None:
    folder = write({"a.tar": samples("0101")})
    (folder / "manifest.json").write_text('{"classes":' * 100_000)
    with pytest.raises(
        DatasetError, match=r"manifest\.json: cannot read its classes \(.*recursion"
    ):
        shards_source(folder, 0.1, {})
    os.truncate(folder / "manifest.json", 10**11)
    with pytest.raises(DatasetError, match=r"classes \(it has 100,000,000,000 bytes; the limit"):
        shards_source(folder, 0.1, {})


PLAIN = {"train/a.tar": samples("0101"), "train/b.tar": samples("10"), "val/a.tar": samples("01")}


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def content(source: Source) -> dict[str, list[tuple[str, int, bytes]]]:
    return {
        split: [(s.key, s.label, source.reader.read(s.location)) for s in split_samples]
        for split, split_samples in source.splits.items()
    }


@pytest.mark.parametrize(
    ("ending", "compress"),
    [
        (".tar.gz", gzip.compress), (".tgz", gzip.compress), (".TAR.GZ", gzip.compress),
        (".tar.bz2", bz2.compress), (".tbz2", bz2.compress), (".tar.xz", lzma.compress),
        (".txz", lzma.compress), (".tar", gzip.compress), (".tar", lzma.compress),
        (".tar.gz", bytes), (".tgz", bz2.compress),
    ],
)  # fmt: skip
def test_compressed_shards_are_as_plain_ones(
    write: Callable, tmp_path: Path, cache: Path, ending: str, compress: Callable
) -> None:
    """Told by their first bytes, whatever their names say; read where they were decompressed to."""
    expected = content(open_source(str(write(PLAIN)), 0.1, None))
    for shard in tmp_path.glob("*/*.tar"):
        data = compress(shard.read_bytes())
        shard.unlink()
        shard.with_name(shard.stem + ending).write_bytes(data)
    source = open_source(str(tmp_path), 0.1, None)
    assert content(source) == expected
    first = source.splits["val"][0].location
    stamp = source.reader.stamp(first)
    again = open_source(str(tmp_path), 0.1, None)
    assert again.splits == source.splits
    assert again.reader.stamp(first) == stamp
    made = 0 if compress is bytes else 3
    assert len([path for path in cache.rglob("*") if path.is_file()]) == made


@pytest.mark.parametrize("cut", [9, 100, -1])
@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_shards_that_are_cut(
    write: Callable, tmp_path: Path, cache: Path, compress: Callable, cut: int
) -> None:
    shard = write(PLAIN) / "train" / "a.tar"
    shard.write_bytes(compress(shard.read_bytes())[:cut])
    with pytest.raises(DatasetError, match=r"train/a.tar: the file is damaged or cut short \("):
        open_source(str(tmp_path), 0.1, None)
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "first", "remedy"),
    [
        (
            "a.tar.zst",
            b"\x28\xb5\x2f\xfd",
            "zstd, which is not read here; decompress it: `zstd -d /",
        ),
        ("a.tzst", b"\x28\xb5\x2f\xfd", "zstd"),
        ("a.tar", b"\x28\xb5\x2f\xfd", "zstd"),
        ("a.tar.lz4", b"\x04\x22\x4d\x18", "lz4"),
        ("a.tar.gz", b"no archive", "a.tar.gz: this is not a complete tar archive"),
    ],
)
def test_shards_that_are_not_read(tmp_path: Path, name: str, first: bytes, remedy: str) -> None:
    (tmp_path / name).write_bytes(first + bytes(600))
    with pytest.raises(DatasetError, match=re.escape(remedy)):
        open_source(str(tmp_path), 0.1, None)


def test_archives_beside_class_folders_or_plain_shards_are_no_shards(
    write: Callable, tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photographs, tmp_path / "classes")
    (tmp_path / "classes" / "backup.tar.gz").write_bytes(b"")
    assert len(open_source(str(tmp_path / "classes"), 0.1, None).classes) == 3
    shutil.rmtree(tmp_path / "classes")
    (write(PLAIN) / "train" / "devkit.tar.gz").write_bytes(b"")
    assert len(open_source(str(tmp_path), 0.1, None).classes) == 2
    assert "devkit.tar.gz left out" in capsys.readouterr().err
