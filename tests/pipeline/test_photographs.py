"""Photographs of any size, without packing: the same batches but for how they are scaled."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet.pixels import whole_image
from pipeline.batches import Decoding, train_batches, whole_batches
from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from pipeline.order import Shard, epoch_order, variation
from pipeline.photographs import index_photographs
from pipeline.sources.folder import folder_source

ALONE, DECODING = Shard(0, 1, None), Decoding(threads=2)


@pytest.fixture
def listed(photographs: Path, tmp_path: Path) -> Dataset:
    return index_photographs(folder_source(photographs, 0.1, {}), tmp_path / "listed", 128)


def test_images_are_those_that_packing_makes_but_for_rounding(
    listed: Dataset, photographs: Path
) -> None:
    samples = folder_source(photographs, 0.1, {}).splits["val"]
    seen = 0
    for batch in whole_batches(listed, "val", ALONE, DECODING, batch=5):
        for row in range(len(batch.real_N)):
            if batch.real_N[row]:
                sample = samples[int(batch.sample_N[row])]
                expected = whole_image(Path(sample.location).read_bytes(), 128).astype(int)
                found = batch.image_NCHW[row].permute(1, 2, 0).numpy()
                assert np.abs(found - expected).mean() < 1
                assert batch.label_N[row] == sample.label
                seen += 1
    assert seen == len(samples)


def test_training_crops_are_cut_from_them(listed: Dataset) -> None:
    (whole,) = whole_batches(listed, "train", ALONE, DECODING, batch=len(listed.train))
    (batch,) = train_batches(
        listed, ALONE, DECODING,
        seed=1, epoch=0, start=0, batch=len(listed.train), crop=112, output="uint8",
    )  # fmt: skip
    order = epoch_order(len(listed.train), 1, 0).astype(int)
    vary = variation(0, len(order), 1, 0, margin=16)
    for row, sample in enumerate(order):
        y, x = vary.crop_N2[row]
        crop = whole.image_NCHW[sample][:, y : y + 112, x : x + 112]
        crop = crop.flip(-1) if vary.mirror_N[row] else crop
        assert torch.equal(batch.image_NCHW[row], crop)


def test_every_exif_orientation_gives_the_same_image(test_data: Path, tmp_path: Path) -> None:
    for name in ("Landscape", "Portrait"):
        (tmp_path / "turned" / name).mkdir(parents=True)
        for path in (test_data / "exif-orientation").glob(f"{name}_*.jpg"):
            (tmp_path / "turned" / name / path.name).symlink_to(path)
    source = folder_source(tmp_path / "turned", 0.1, {})
    listed = index_photographs(source, tmp_path / "listed", 64)
    (batch,) = whole_batches(listed, "train", ALONE, DECODING, batch=16)
    for label in (0, 1):
        images = batch.image_NCHW[batch.label_N == label].float()
        assert len(images) == 8
        assert (images - images[0]).abs().mean(dim=(1, 2, 3)).max() < 4


def test_a_format_that_begins_with_zeros_is_read(photographs: Path, tmp_path: Path) -> None:
    """Of each photograph a JPEG 2000 without loss: the two are read alike."""
    for path in photographs.glob("*/00[0-4].jpg"):
        folder = tmp_path / "mixed" / path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / path.name).write_bytes(path.read_bytes())
        Image.open(path).save(folder / f"{path.stem}.jp2")
    listed = index_photographs(folder_source(tmp_path / "mixed", 0.1, {}), tmp_path / "listed", 64)
    (batch,) = whole_batches(listed, "train", ALONE, DECODING, batch=len(listed.train))
    place = [Path(listed.train.place(sample)) for sample in range(len(listed.train))]
    assert {path.suffix for path in place} == {".jpg", ".jp2"}
    for path, image_CHW in zip(place, batch.image_NCHW, strict=True):
        expected = whole_image(path.with_suffix(".jpg").read_bytes(), 64).astype(int)
        assert np.abs(image_CHW.permute(1, 2, 0).numpy() - expected).mean() < 1


@pytest.fixture
def few(photographs: Path, tmp_path: Path) -> Path:
    """Five photographs in each of three classes."""
    for path in photographs.glob("*/00[0-4].jpg"):
        (tmp_path / "few" / path.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "few" / path.parent.name / path.name).write_bytes(path.read_bytes())
    return tmp_path / "few"


def written(photograph: Path, form: str) -> bytes:
    file = io.BytesIO()
    Image.open(photograph).save(file, form)
    return file.getvalue()


@pytest.mark.parametrize("name", ["lost.jpg", "new.avif", "old.gif", "text.jpg", "words", "x.ico"])
def test_a_format_that_training_cannot_read_is_named_at_once(few: Path, name: str) -> None:
    photograph = few / "disc" / "000.jpg"
    content = {"lost.jpg": bytes(5000)} | {
        f"{stem}.{form}": written(photograph, form)
        for stem, form in (("new", "avif"), ("old", "gif"), ("x", "ico"))
    }
    (few / "disc" / name).write_bytes(content.get(name, b"no photograph"))
    (few / "ring" / name).write_bytes(content.get(name, b"no photograph"))
    text = f"disc/{name} is of none of the formats .*and 1 more of 17 files.*; convert or remove it"
    with pytest.raises(DatasetError, match=text):
        index_photographs(folder_source(few, 0.1, {}), few.parent / "listed", 64)


def test_what_would_be_read_wrongly_is_named_also_where_damage_is_replaced(few: Path) -> None:
    grey = np.linspace(0, 200, 64 * 64, dtype=np.float32).reshape(64, 64)
    Image.fromarray(grey).save(few / "disc" / "float.tif")
    (few / "disc" / "cut.tif").write_bytes((few / "disc" / "float.tif").read_bytes()[:20])
    text = r"float\.tif cannot be used: .* floats from 0 to 200; only 0 to 1 is known; convert"
    with pytest.raises(DatasetError, match=text):
        index_photographs(folder_source(few, 0.1, {}), few.parent / "r", 64, "replace")
    (few / "disc" / "float.tif").unlink()
    index_photographs(folder_source(few, 0.1, {}), few.parent / "r", 64, "replace")
    with pytest.raises(DatasetError, match=r"cut\.tif is cut short, or of a kind of TIFF"):
        index_photographs(folder_source(few, 0.1, {}), few.parent / "listed", 64)


def test_batches_that_no_memory_holds_are_refused_before_training(few: Path) -> None:
    text = r"a batch of 1,000,000,000 photographs takes [\d,]+ GB .*; pack the folder, or choose a"
    with pytest.raises(DatasetError, match=text):
        index_photographs(folder_source(few, 0.1, {}), few.parent / "listed", 64, batch=10**9)


def test_files_that_are_empty_or_cannot_be_read_are_named_at_once(few: Path) -> None:
    (few / "disc" / "empty.jpg").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"empty\.jpg is empty, .*; convert or remove it; or"):
        index_photographs(folder_source(few, 0.1, {}), few.parent / "listed", 64)
    listed = index_photographs(folder_source(few, 0.1, {}), few.parent / "r", 64, "replace")
    assert len(listed.train) + len(listed.val) == 16
    os.mkfifo(few / "disc" / "a.jpg")
    (few / "disc" / "b.jpg").symlink_to("nothing")
    for damage in ("error", "replace"):
        with pytest.raises(DatasetError, match=r"a\.jpg cannot be read \(not a regular file\)"):
            index_photographs(folder_source(few, 0.1, {}), few.parent / "listed", 64, damage)  # type: ignore[arg-type]


def test_what_would_take_a_decoder_long_is_named_at_once(few: Path) -> None:
    """Also where damage is to be replaced: it would be decoded, slowly."""
    scans = few / "disc" / "scans.jpg"
    Image.open(few / "disc/000.jpg").save(scans, progressive=True)
    data = scans.read_bytes()
    scans.write_bytes(data[:-2] + data[data.rindex(b"\xff\xda") : -2] * 200)
    (few / "disc" / "x.jpg").write_bytes(data)
    os.truncate(few / "disc" / "x.jpg", 10**11)
    for damage in ("error", "replace"):
        with pytest.raises(
            DatasetError, match=r"scans\.jpg cannot be used: .* more than 100 scans"
        ):
            index_photographs(folder_source(few, 0.1, {}), few.parent / "listed", 64, damage)  # type: ignore[arg-type]
    scans.unlink()
    with pytest.raises(DatasetError, match=r"x\.jpg cannot be used: the file has 100,000,000,000"):
        index_photographs(folder_source(few, 0.1, {}), few.parent / "listed", 64)


def test_each_format_that_is_read_in_place_is_read_alike(few: Path) -> None:
    forms = ("png", "bmp", "tiff", "webp", "ppm", "jp2")
    for form in forms:
        lossless = {"lossless": True} if form == "webp" else {}
        Image.open(few / "disc/000.jpg").save(few / f"disc/000.{form}", **lossless)
    Image.open(few / "disc/000.jpg").save(few / "disc/without-an-ending", "PNG")
    listed = index_photographs(folder_source(few, 0.1, {}), few.parent / "listed", 64)
    expected = whole_image((few / "disc/000.jpg").read_bytes(), 64).astype(int)
    seen = set()
    for split, photographs in (("train", listed.train), ("val", listed.val)):
        (batch,) = whole_batches(listed, split, ALONE, DECODING, batch=len(photographs))
        for sample, image_CHW in zip(batch.sample_N.tolist(), batch.image_NCHW, strict=True):
            path = Path(photographs.place(sample))
            if path.parent.name == "disc" and path.stem in ("000", "without-an-ending"):
                found = image_CHW.permute(1, 2, 0).numpy()
                assert np.abs(found - expected).mean() < 1, path
                seen.add(path.suffix)
    assert seen == {"", ".jpg", *(f".{form}" for form in forms)}


def test_damage_behind_a_sound_beginning_is_named_with_a_remedy(few: Path) -> None:
    (few / "disc" / "cut.jpg").write_bytes((few / "disc" / "000.jpg").read_bytes()[:100])
    listed = index_photographs(folder_source(few, 0.1, {}), few.parent / "listed", 64)

    def read() -> None:
        for split in ("train", "val"):
            list(whole_batches(listed, split, ALONE, DECODING, batch=4))

    with pytest.raises(DatasetError, match=r"cut\.jpg.* cannot be decoded; convert or remove it"):
        read()


def test_mean_is_that_of_the_training_photographs(listed: Dataset, dataset: Path) -> None:
    assert np.array_equal(listed.mean_SS3, Dataset(dataset).mean_SS3)
    assert listed.manifest.colour == Dataset(dataset).manifest.colour
    assert listed.manifest.original


def test_a_second_time_the_list_is_kept(listed: Dataset, photographs: Path, tmp_path: Path) -> None:
    source = folder_source(photographs, 0.2, {})
    assert index_photographs(source, listed.folder, 128).digest == listed.digest


def test_a_photograph_that_changed_is_named(photographs: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for path in photographs.glob("*/00*.jpg"):
        (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
        (copy / path.parent.name / path.name).write_bytes(path.read_bytes())
    listed = index_photographs(folder_source(copy, 0.1, {}), tmp_path / "listed", 64)
    path = Path(listed.train.place(3))
    data = path.read_bytes()
    path.write_bytes(data[:-10])
    with pytest.raises(DatasetError, match=f"{path.name}: .* bytes, but had .* when the run began"):
        list(whole_batches(listed, "train", ALONE, DECODING, batch=4))
    path.unlink()
    with pytest.raises(DatasetError, match=f"{path.name}: No such file"):
        list(whole_batches(listed, "train", ALONE, DECODING, batch=4))
