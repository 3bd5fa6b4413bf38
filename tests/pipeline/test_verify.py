"""Each kind of damage is found, named and placed."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from pipeline.photographs import index_photographs
from pipeline.sources.folder import folder_source
from pipeline.verify import damages


@pytest.fixture
def copy(dataset: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(dataset, tmp_path / "copy"))


def flip(path: Path, offset: int, length: int = 1) -> None:
    data = bytearray(path.read_bytes())
    for position in range(offset, offset + length):
        data[position] ^= 0x55
    path.write_bytes(data)


def test_an_undamaged_dataset_has_no_damage(dataset: Path) -> None:
    assert list(damages(Dataset(dataset))) == []


def test_a_flipped_bit_is_found_in_its_shard(copy: Path) -> None:
    row = np.load(copy / "train" / "index.npy")[5]
    flip(copy / "train" / "00000.tar", int(row["offset"]) + int(row["size"]) // 2)
    lines = list(damages(Dataset(copy)))
    assert (
        lines[0]
        == "train/00000.tar: the file has changed since it was packed: its SHA-256 is another"
    )


def test_a_destroyed_jpeg_is_named(copy: Path) -> None:
    row = np.load(copy / "val" / "index.npy")[2]
    flip(copy / "val" / "00000.tar", int(row["offset"]), 300)
    lines = list(damages(Dataset(copy)))
    assert len(lines) == 2
    place = f"val/00000.tar, at byte {row['offset']} (image 2)"
    assert place in Dataset(copy).val.place(2) + " (image 2)"  # as training names it
    reason = "the file is not an image of a supported format (JPEG)"
    assert re.fullmatch(re.escape(place) + r": disc/\w+\.jpg: " + re.escape(reason), lines[1])


def test_a_cut_jpeg_is_named_without_words_for_programmers(copy: Path) -> None:
    row = np.load(copy / "val" / "index.npy")[2]
    flip(copy / "val" / "00000.tar", int(row["offset"]) + 700, int(row["size"]) - 700)
    assert "<" not in "".join(damages(Dataset(copy)))


def test_an_index_that_points_elsewhere(copy: Path) -> None:
    index = np.load(copy / "train" / "index.npy")
    index["offset"][3] += 512
    index["label"][7] += 1
    index["label"][9] = 77
    np.save(copy / "train" / "index.npy", index)
    lines = "\n".join(damages(Dataset(copy)))
    assert "train/index.npy: the file has changed" in lines
    assert "row 9 has label 77" in lines
    assert f"no image at byte {index['offset'][3]}, where the index has one" in lines
    assert f"in the index {index['label'][7]}" in lines


def test_what_is_missing_or_cut(copy: Path) -> None:
    (copy / "mean.npy").unlink()
    (copy / "train" / "index.npy").write_bytes(b"")
    shard = copy / "val" / "00000.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    lines = list(damages(Dataset(copy)))
    assert "mean.npy: No such file or directory" in lines
    assert "train/index.npy: the file is not an index of images" in lines
    assert (
        "val/00000.tar: the file has changed since it was packed: its SHA-256 is another" in lines
    )
    assert sum("where the index has one" in line for line in lines) >= 10


def test_the_command_exits_1_on_damage(copy: Path, run: Callable) -> None:
    done = run("pipeline", "verify", copy)
    assert done.returncode == 0
    assert "no damage in 120 images of 2 shards" in done.stdout
    (copy / "val" / "00000.tar").unlink()
    done = run("pipeline", "verify", copy)
    assert done.returncode == 1
    assert "val/00000.tar: No such file or directory" in done.stdout
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"version": 9}))
    done = run("pipeline", "verify", copy)
    assert done.returncode == 2
    assert "the dataset has version 9, but this program reads version 1" in done.stderr


def test_photographs_that_were_not_packed(photographs: Path, tmp_path: Path) -> None:
    listed = index_photographs(folder_source(photographs, 0.1, {}), tmp_path, 64)
    with pytest.raises(DatasetError, match="lists photographs that were not packed"):
        list(damages(listed))
