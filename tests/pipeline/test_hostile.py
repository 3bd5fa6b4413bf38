"""Sources with files that are no images, damaged, odd or made to harm."""

import io
import json
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.dataset import Dataset
from tests.alexnet.test_bounds import chunk, with_chunks, with_scans
from tests.pipeline.test_decoder import slow_gif


def test_bad_files_are_quarantined_up_to_a_share(
    photographs: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    source = tmp_path / "source"
    for path in photographs.glob("*/*.jpg"):
        target = source / path.relative_to(photographs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (source / "disc" / "empty.jpg").write_bytes(b"")
    (source / "ring" / "cut.jpg").write_bytes(path.read_bytes()[:2000])
    (source / "ring" / "text.png").write_text("no image")
    refused = run_on_cluster("pipeline", "pack", source, tmp_path / "strict", "--size", 64)
    assert refused.returncode == 2
    assert "3 of 123 files cannot be used" in refused.stderr
    assert "1 empty" in refused.stderr
    assert not (tmp_path / "strict" / "manifest.json").exists()

    done = run_on_cluster(
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


def test_a_folder_without_images(tmp_path: Path, run_on_cluster: Callable) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(name)
    done = run_on_cluster("pipeline", "pack", tmp_path / "source", tmp_path / "packed")
    assert done.returncode == 2
    assert "4 of 4 files cannot be used (4 not-an-image)" in done.stderr


def test_every_odd_file_is_packed_right_or_quarantined(
    test_data: Path, photographs: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    """Fuzz corpora, odd encodings and every EXIF orientation in one source."""
    source = tmp_path / "source"
    for name in ("nasty-images", "exif-orientation"):
        (source / name).mkdir(parents=True)
        for path in (test_data / name).iterdir():
            beside = path.suffix in (".jsonl", ".txt") or path.name in ("LICENSE", ".gitignore")
            if not beside:
                (source / name / path.name).symlink_to(path)
    (source / "nasty-images" / "60000x60000.jpg").write_bytes(declared_jpeg(60_000, 60_000))
    tall = io.BytesIO()
    Image.new("L", (1, 60_000), 7).save(tall, "PNG")
    (source / "nasty-images" / "1x60000.png").write_bytes(tall.getvalue())
    files = sum(path.is_file() for path in source.glob("*/*"))
    assert files >= 622 + 17 + 2

    packed = tmp_path / "packed"
    done = run_on_cluster("pipeline", "pack", source, packed, "--size", 64, "--max-quarantined", 1)
    assert done.returncode == 0, done.stderr
    dataset = Dataset(packed)
    rows = [json.loads(line) for line in (packed / "quarantine.jsonl").read_text().splitlines()]
    assert len(dataset.train) + len(dataset.val) + len(rows) == files
    refused = {Path(row["file"]).name: row for row in rows}
    assert "pixels; the limit is" in refused["60000x60000.jpg"]["reason"]
    assert "1x60000.png" not in refused
    assert all(row["reason"] for row in rows)

    keys = webdataset_keys(packed)
    assert len(keys) == len(dataset.train) + len(dataset.val)
    turned = {key: jpeg for key, jpeg in keys.items() if key.startswith("exif-orientation/")}
    assert len(turned) == 18
    for name in ("Landscape", "Portrait"):
        images = [
            np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
            for key, jpeg in turned.items()
            if f"/{name}" in key
        ]
        assert len(images) == 9
        for image in images[1:]:
            assert np.abs(image - images[0]).mean() < 4  # each was compressed by itself


def test_what_would_take_long_or_fill_the_memory_is_quarantined(
    photographs: Path, tmp_path: Path, run_on_cluster: Callable
) -> None:
    source = tmp_path / "source"
    for path in photographs.glob("*/00*.jpg"):
        target = source / path.relative_to(photographs)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    (source / "disc" / "scans.jpg").write_bytes(with_scans(3000, 7000, 7000))
    (source / "disc" / "chunks.png").write_bytes(with_chunks(chunk(b"abCd"), 1_000_000))
    (source / "disc" / "sound.png").write_bytes(with_chunks(chunk(b"abCd"), 4))
    start, comma, end = slow_gif(0).rpartition(b",")
    with (source / "disc" / "slow.gif").open("wb") as file:
        file.write(start)
        file.seek(2**29, os.SEEK_CUR)  # Pillow passes over each byte of the hole, in Python
        file.write(comma + end)
    (source / "disc" / "sound.gif").write_bytes(slow_gif(4))
    (source / "ring" / "hole.jpg").write_bytes(b"\xff\xd8\xff")
    os.truncate(source / "ring" / "hole.jpg", 10**11)
    packed = tmp_path / "packed"
    done = run_on_cluster(
        "pipeline", "pack", source, packed, "--size", 64, "--max-quarantined", 0.2
    )
    assert done.returncode == 0, done.stderr
    rows = map(json.loads, (packed / "quarantine.jsonl").read_text().splitlines())
    found = {Path(row["file"]).name: (row["kind"], row["reason"]) for row in rows}
    assert {name: kind for name, (kind, _) in found.items()} == {
        "scans.jpg": "too-large", "chunks.png": "too-large", "slow.gif": "too-large",
        "hole.jpg": "too-large",
    }  # fmt: skip
    assert "more than 81 scans of 49,000,000 pixels" in found["scans.jpg"][1]
    assert "more than 56,875 chunks in 12,000,069 bytes" in found["chunks.png"][1]
    assert "more than 10 seconds of processor time" in found["slow.gif"][1]
    assert "100,000,000,000 bytes; the limit is 1,073,741,824" in found["hole.jpg"][1]
    assert Dataset(packed).manifest.quarantined == 4


def declared_jpeg(width: int, height: int) -> bytes:
    """A small JPEG whose header says it is large."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG")
    data = file.getvalue()
    start = data.index(b"\xff\xc0") + 5
    return data[:start] + struct.pack(">HH", height, width) + data[start + 4 :]


def webdataset_keys(packed: Path) -> dict[str, bytes]:
    """{key: JPEG} of both splits."""
    found = {}
    for shard in packed.glob("*/*.tar"):
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.name.endswith(".jpg"):
                    content = tar.extractfile(member)
                    assert content is not None
                    found[member.name.removesuffix(".jpg")] = content.read()
    return found
