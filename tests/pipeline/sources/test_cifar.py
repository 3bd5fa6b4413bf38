"""CIFAR-10's binary version: every image and label as they are in the file."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.manifest import DatasetError
from pipeline.sources import open_source
from pipeline.sources.cifar import CLASSES, RECORD_BYTES, training_images


def batch(path: Path, images: int, seed: int) -> np.ndarray:
    record_NB = np.random.default_rng(seed).integers(0, 256, (images, RECORD_BYTES), dtype=np.uint8)
    record_NB[:, 0] = np.arange(images) % len(CLASSES)
    path.write_bytes(record_NB.tobytes())
    return record_NB


@pytest.mark.parametrize("test", [False, True])
def test_images_are_read_bit_for_bit(
    tmp_path: Path, test: bool, capsys: pytest.CaptureFixture
) -> None:
    records = {f"data_batch_{n}": batch(tmp_path / f"data_batch_{n}.bin", 20, n) for n in (1, 2)}
    if test:
        records["test_batch"] = batch(tmp_path / "test_batch.bin", 10, 3)
    (tmp_path / "readme.html").write_text("CIFAR-10")
    source = open_source(str(tmp_path), 0.25, None)
    assert tuple(label.id for label in source.classes) == CLASSES
    train, val = source.splits["train"], source.splits["val"]
    assert (len(train), len(val)) == ((40, 10) if test else (30, 10))
    assert all("test_batch" in sample.key for sample in val) == test
    assert ("test_batch.bin is validated on" in capsys.readouterr().err) == test
    for sample in (*train, *val):
        name, number = sample.key.split("/")[1].rsplit("_", 1)
        record = records[name][int(number)]
        assert sample.label == record[0]
        image = np.asarray(Image.open(io.BytesIO(source.reader.read(sample.location))))
        assert (image.transpose(2, 0, 1).ravel() == record[1:]).all()
    stamp = source.reader.stamp(train[0].location)
    Path(train[0].location.rpartition(":")[0]).touch()
    assert source.reader.stamp(train[0].location) != stamp


def test_what_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1.bin"
    record_NB = batch(path, 12, 0)
    for data, text in (
        (b"", r"data_batch_1.bin: 0 bytes are no whole number of images of 3,073 bytes; fetch"),
        (record_NB.tobytes()[:-1], r"36,875 bytes are no whole number of images"),
        (record_NB[:9].tobytes(), "there is no image of truck; add the others of data_batch_"),
        (b"\x0a" + record_NB.tobytes()[1:], r"data_batch_1.bin: image 0 has the label 10, but"),
    ):
        path.write_bytes(data)
        with pytest.raises(DatasetError, match=text):
            open_source(str(tmp_path), 0.1, None)


def test_the_official_files(test_data: Path) -> None:
    source = open_source(str(test_data / "cifar10"), 0.1, None)
    assert sum(map(len, source.splits.values())) == 20_000
    samples = {s.key: s for split in source.splits.values() for s in split}
    assert "frog/data_batch_1_00000" in samples
    counts = np.bincount([sample.label for sample in samples.values()])
    assert counts.min() > 1900
    assert counts.max() < 2100


def test_the_training_images_come_as_arrays(tmp_path: Path) -> None:
    records = [batch(tmp_path / f"data_batch_{n}.bin", 20, n) for n in (1, 2)]
    batch(tmp_path / "test_batch.bin", 10, 3)
    image_N3HW, label_N = training_images(tmp_path)
    record_NB = np.concatenate(records)
    np.testing.assert_array_equal(label_N, record_NB[:, 0])
    np.testing.assert_array_equal(image_N3HW.reshape(40, -1), record_NB[:, 1:])
    with pytest.raises(DatasetError, match="there is no file data_batch"):
        training_images(tmp_path.parent)
