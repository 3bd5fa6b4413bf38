"""Packing: the same bytes every time, nothing lost silently, readable by others."""

import contextlib
import hashlib
import io
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import webdataset
from PIL import Image

from alexnet import console
from alexnet.pixels import to_square, whole_image
from pipeline.arguments import COMMANDS
from pipeline.dataset import Dataset
from pipeline.destination import RECORDS
from pipeline.shard import ShardPlan, encode, pack_shard
from pipeline.sources.folder import folder_source
from tests.conftest import in_own_mounts
from tests.nodes import ray_nodes


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
            expected = encode(to_square(Path(samples[number].location).read_bytes(), 128))
            assert split.jpeg(number).tobytes() == expected
            assert split.label(number) == samples[number].label


@pytest.mark.parametrize("comment", [b"short", b"x" * 100_000, "ä" * 60_000])
def test_a_comment_stays_with_the_photograph(comment: bytes | str) -> None:
    """Of a GIF or a PNG it may be longer than a JPEG can hold."""
    image = Image.effect_noise((64, 64), 9).convert("RGB")
    expected = encode(image)
    image.info["comment"] = comment
    assert encode(image) == expected


def test_mean_and_colour_are_those_of_the_training_images(dataset: Path, photographs: Path) -> None:
    packed, source = Dataset(dataset), folder_source(photographs, 0.1, {})
    images = np.stack(
        [whole_image(Path(s.location).read_bytes(), 128) for s in source.splits["train"]]
    )
    assert np.array_equal(packed.mean_SS3, images.mean(axis=0).astype(np.float32))
    assert np.allclose(packed.manifest.colour.mean, images.mean(axis=(0, 1, 2)), atol=1e-5)
    decoded = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(packed.train.jpeg(n).tobytes())))
            for n in range(len(packed.train))
        ]
    )
    assert np.abs(decoded.mean(axis=(0, 1, 2)) - packed.manifest.colour.mean).max() < 0.2


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
        assert int(row["cls"]) == packed.train.label(number)


@pytest.fixture(scope="module")
def many(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four shards' worth of photographs: links to the same ones."""
    folder = tmp_path_factory.mktemp("many")
    for path in photographs.glob("*/*.jpg"):
        (folder / path.parent.name).mkdir(exist_ok=True)
        for copy in range(28):
            (folder / path.parent.name / f"{path.stem}-{copy}.jpg").hardlink_to(path)
    return folder


def pack_and_kill(source: Path, directory: Path, after_s: float) -> None:
    command = [sys.executable, "-m", "pipeline", "pack", source, directory, "--size", "64"]
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    process.kill()
    process.wait()


@pytest.mark.slow
def test_interrupted_and_rerun_it_keeps_what_is_finished(
    many: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    directory = tmp_path / "packed"
    command = [sys.executable, "-m", "pipeline", "pack", many, directory, "--size", "64"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    while process.poll() is None and not any(directory.glob(f"{RECORDS}/train-*.npz")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (directory / "manifest.json").exists()
    record = next(directory.glob(f"{RECORDS}/train-*.npz")).stem
    kept = directory / f"{record.replace('-', '/')}.tar"
    before = kept.stat().st_ino, kept.read_bytes()
    done = run_on_cluster("pipeline", "pack", many, directory, "--size", 64)
    assert done.returncode == 0, done.stderr
    assert (kept.stat().st_ino, kept.read_bytes()) == before
    assert not (directory / RECORDS).exists()
    assert len(Dataset(directory).manifest.train.shards) == 4


@pytest.mark.slow
@pytest.mark.long
def test_killed_twenty_times_it_ends_with_the_same_bytes(
    many: Path, tmp_path: Path, run: Callable
) -> None:
    start = time.monotonic()
    assert run("pipeline", "pack", many, tmp_path / "undisturbed", "--size", 64).returncode == 0
    usual_s = time.monotonic() - start
    expected = content(tmp_path / "undisturbed")
    moment = random.Random(2012)
    for number in range(20):
        directory = tmp_path / f"killed-{number // 4}"
        pack_and_kill(many, directory, moment.uniform(0.2, 1) * usual_s)
        for name, digest in content(directory).items():  # what has its name is whole
            if not Path(name).name.startswith(".") and RECORDS not in name:
                assert digest == expected[name], name
        if number % 4 == 3:
            done = run("pipeline", "pack", many, directory, "--size", 64)
            assert done.returncode == 0 or "there is a dataset already" in done.stderr, done.stderr
            assert content(directory) == expected


def test_a_source_that_changed_meanwhile_is_packed_anew(photographs: Path, tmp_path: Path) -> None:
    source = folder_source(photographs, 0.1, {})
    (tmp_path / "train").mkdir()
    (tmp_path / RECORDS).mkdir()
    plan = ShardPlan("train", 0, source.splits["train"][:20], 64)
    first, sums = pack_shard(source.reader, plan, tmp_path)
    again, same_sums = pack_shard(source.reader, plan, tmp_path)
    assert first.file == again.file
    assert np.array_equal(first.index, again.index)
    assert np.array_equal(sums.pixel_3SS, same_sums.pixel_3SS)
    assert (sums.images, sums.product_6.tolist()) == (20, same_sums.product_6.tolist())

    (tmp_path / "train" / plan.file).write_bytes(b"damaged since")
    assert pack_shard(source.reader, plan, tmp_path)[0].file == first.file
    assert hashlib.sha256((tmp_path / "train" / plan.file).read_bytes()).hexdigest() == (
        first.file.sha256
    )
    smaller = ShardPlan("train", 0, plan.samples[:19], 64)
    assert pack_shard(source.reader, smaller, tmp_path)[0].file.samples == 19
    other = ShardPlan("train", 0, plan.samples, 80)
    assert pack_shard(source.reader, other, tmp_path)[0].file.sha256 != first.file.sha256


def test_validation_images_seen_in_training_are_reported(
    photographs: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    source = tmp_path / "source"
    for number, path in enumerate(sorted(photographs.glob("*/*.jpg"))):
        split = "val" if number % 4 == 0 else "train"
        target = source / split / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    twin = next(source.glob("val/disc/*.jpg"))
    (source / "train" / "ring" / "twin.jpg").write_bytes(twin.read_bytes())
    done = run_on_cluster("pipeline", "pack", source, tmp_path / "packed", "--size", 64)
    assert done.returncode == 0, done.stderr
    assert "1 validation images are also among the training images" in done.stdout
    assert json.loads((tmp_path / "packed" / "duplicates.jsonl").read_text()) == {
        "val": f"disc/{twin.stem}", "train": "ring/twin",
    }  # fmt: skip
    assert Dataset(tmp_path / "packed").manifest.duplicates == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nowhere", "d"), "nowhere: there is no such folder"),
        (
            ("builtin", "d", "--size", "12"),
            "--size is 12: expected at least 64",
        ),
        (("builtin", "d", "--colour", "1"), "No such option: --colour"),
        ((), "Missing argument 'SOURCE'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], words: tuple, text: str
) -> None:
    assert console.run("alexnet", COMMANDS, arguments=["pack", *words]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_an_existing_dataset_is_not_touched(
    dataset: Path, photographs: Path, run: Callable
) -> None:
    before = content(dataset)
    done = run("pipeline", "pack", photographs, dataset, "--size", 64)
    assert done.returncode == 2
    assert "there is a dataset already" in done.stderr
    assert content(dataset) == before


def test_a_full_disk_is_one_line_and_leaves_nothing_half_written(
    many: Path, tmp_path: Path
) -> None:
    done = in_own_mounts(
        """
        mount -t tmpfs -o size=6m tmpfs "$3"
        "$1" -m pipeline pack "$2" "$3/packed" --size 64 || echo "status $?"
        find "$3" -name '*.partial' -o -name manifest.json
        """,
        many,
        tmp_path,
    )
    assert done.stdout.splitlines()[-1] == "status 2", done
    assert "No space left on device" in done.stderr
    assert "correct this and run the same command again" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_read_only_dataset_can_be_read_and_not_written(dataset: Path, tmp_path: Path) -> None:
    done = in_own_mounts(
        """
        mount --bind "$2" "$2"
        mount -o remount,bind,ro "$2"
        "$1" -m pipeline verify "$2"
        "$1" -m pipeline pack builtin "$2/new" || echo "status $?"
        """,
        dataset,
    )
    assert done.stdout.splitlines()[-1] == "status 2", done
    assert "no damage" in done.stdout
    assert "Read-only file system" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_cluster_of_two_nodes_packs_the_same_bytes(
    many: Path, tmp_path: Path, run: Callable, run_on_cluster: Callable
) -> None:
    """As one node, with more tasks at once."""
    done = run_on_cluster("pipeline", "pack", many, tmp_path / "one", "--size", 64)
    assert done.returncode == 0, done.stderr
    with ray_nodes() as cluster:
        for _ in range(2):
            cluster.start(cpus=2)
        words = ("pipeline", "pack", many, tmp_path / "two", "--size", 64)
        done = run(*words, env=cluster.environment)
        assert done.returncode == 0, done.stderr
    assert content(tmp_path / "two") == content(tmp_path / "one")
