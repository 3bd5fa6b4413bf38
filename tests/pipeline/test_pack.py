"""Packing: the same bytes every time, nothing lost silently, readable by others."""

import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from alexnet.pixels import whole_picture
from pipeline.dataset import Dataset
from pipeline.pack import encode
from pipeline.sources.folder import folder_source


def content(directory: Path) -> dict[str, str]:
    """{file: SHA-256} of everything below."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_each_sample_is_its_photograph(dataset: Path, photographs: Path) -> None:
    source, packed = folder_source(photographs, 0.1, {}), Dataset(dataset)
    for name, split in (("train", packed.train), ("val", packed.val)):
        samples = source.splits[name]
        assert len(split) == len(samples)
        for number in range(0, len(samples), 7):
            expected = encode(whole_picture(Path(samples[number].location).read_bytes(), 128))
            assert split.jpeg(number).tobytes() == expected
            assert split.label_N[number] == samples[number].label


def test_mean_and_colour_are_those_of_the_packed_pictures(dataset: Path) -> None:
    packed = Dataset(dataset)
    pictures = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(packed.train.jpeg(n).tobytes())))
            for n in range(len(packed.train))
        ]
    )
    assert np.array_equal(packed.mean_SS3, pictures.mean(axis=0).astype(np.float32))
    assert np.allclose(packed.manifest.colour.mean, pictures.mean(axis=(0, 1, 2)), atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # webdataset leaves closing to the garbage collector
def test_shards_are_webdataset_and_their_hashes_are_right(dataset: Path) -> None:
    packed = Dataset(dataset)
    shard = packed.manifest.train.shards[0]
    path = dataset / "train" / shard.file
    assert hashlib.sha256(path.read_bytes()).hexdigest() == shard.sha256
    rows = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert len(rows) == shard.samples
    for number, row in enumerate(rows):
        assert row["jpg"] == packed.train.jpeg(number).tobytes()
        assert int(row["cls"]) == packed.train.label_N[number]


def test_interrupted_and_rerun_it_ends_with_the_same_bytes(
    dataset: Path, photographs: Path, tmp_path: Path, run: Callable
) -> None:
    again = tmp_path / "again"
    command = [sys.executable, "-m", "pipeline", "pack", photographs, again, "--size", "128"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
    while process.poll() is None and not any(again.glob("train/*.tar")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (again / "manifest.json").exists()
    done = run("pipeline", "pack", photographs, again, "--size", 128)
    assert done.returncode == 0, done.stderr
    assert content(again) == content(dataset)


def test_bad_files_are_quarantined_up_to_a_share(
    photographs: Path, tmp_path: Path, run: Callable
) -> None:
    source = tmp_path / "source"
    for path in photographs.glob("*/*.jpg"):
        target = source / path.relative_to(photographs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (source / "disc" / "empty.jpg").write_bytes(b"")
    (source / "ring" / "cut.jpg").write_bytes(path.read_bytes()[:2000])
    (source / "ring" / "text.png").write_text("no picture")
    refused = run("pipeline", "pack", source, tmp_path / "strict", "--size", 64)
    assert refused.returncode == 2
    assert "3 of 123 files cannot be used" in refused.stderr
    assert "1 empty" in refused.stderr
    assert not (tmp_path / "strict" / "manifest.json").exists()

    done = run(
        "pipeline", "pack", source, tmp_path / "lax", "--size", 64, "--max-quarantined", 0.05
    )
    assert done.returncode == 0, done.stderr
    rows = map(json.loads, (tmp_path / "lax" / "quarantine.jsonl").read_text().splitlines())
    assert {(Path(row["file"]).name, row["kind"]) for row in rows} == {
        ("empty.jpg", "empty"), ("cut.jpg", "damaged"), ("text.png", "not-an-image"),
    }  # fmt: skip
    packed = Dataset(tmp_path / "lax")
    assert packed.manifest.quarantined == 3
    assert len(packed.train) + len(packed.val) == 120


def test_a_folder_without_pictures(tmp_path: Path, run: Callable) -> None:
    for name in ("a/1.txt", "a/2.txt", "b/1.txt", "b/2.txt"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    done = run("pipeline", "pack", tmp_path / "source", tmp_path / "packed")
    assert done.returncode == 2
    assert "4 of 4 files cannot be used (4 not-an-image)" in done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nowhere", "d"), "nowhere is not a folder"),
        (("builtin", "d", "--size", "12"), "--size is 12; it must lie between 64 and 1024"),
        (("builtin", "d", "--colour", "1"), "unrecognized arguments: --colour 1"),
        ((), "the following arguments are required: source, dataset"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(run: Callable, words: tuple, text: str) -> None:
    done = run("pipeline", "pack", *words)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_existing_dataset_is_not_touched(
    dataset: Path, photographs: Path, run: Callable
) -> None:
    before = content(dataset)
    done = run("pipeline", "pack", photographs, dataset, "--size", 64)
    assert done.returncode == 2
    assert "holds a dataset already" in done.stderr
    assert content(dataset) == before
