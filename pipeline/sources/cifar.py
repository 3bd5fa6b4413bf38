"""CIFAR-10 in its binary version, as https://www.cs.toronto.edu/~kriz/cifar.html distributes it: a
record is a byte with the label and 3,072 of an image, 32 x 32, red before green before blue.

Shapes: N images, H rows, W columns.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet.classes import ClassLabel
from alexnet.tree import list_entries
from pipeline.manifest import DatasetError
from pipeline.sources.source import Files, Sample, Source, hold_out, ordered

TRAIN, TEST = "data_batch_*.bin", "test_batch.bin"
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SIDE = 32
RECORD_BYTES = 1 + 3 * SIDE**2


class Records:
    """Gives images as PNG; a location is `PATH:NUMBER`."""

    def read(self, location: str) -> bytes:
        path, _, number = location.rpartition(":")
        with Path(path).open("rb") as file:
            file.seek(int(number) * RECORD_BYTES + 1)
            image_3HW = np.frombuffer(file.read(RECORD_BYTES - 1), np.uint8).reshape(3, SIDE, SIDE)
        png = io.BytesIO()
        Image.fromarray(image_3HW.transpose(1, 2, 0).copy()).save(png, "PNG")
        return png.getvalue()

    def stamp(self, location: str) -> str:
        return Files().stamp(location.rpartition(":")[0])


def find_batches(folder: Path) -> list[Path]:
    """The files of training images in a folder of CIFAR-10."""
    return sorted(path for path in list_entries(folder).files if path.match(TRAIN))


def cifar_source(folder: Path, val_fraction: float, class_names: dict[str, str]) -> Source:
    """The training images, and the test images to be validated on: CIFAR-10 has no others. Without
    them `val_fraction` of each class is held out. Raises DatasetError.
    """
    train = [sample for path in find_batches(folder) for sample in _samples(path)]
    if missing := set(range(len(CLASSES))) - {sample.label for sample in train}:
        raise DatasetError(
            f"{folder}: there is no image of {CLASSES[min(missing)]}; add the others of {TRAIN}"
        )
    if (test := folder / TEST) in list_entries(folder).files:
        print(f"{folder}: {TEST} is validated on", file=sys.stderr)
        splits = ordered(train, _samples(test))
    else:
        splits = hold_out(train, val_fraction)
    classes = tuple(ClassLabel(id=name, name=class_names.get(name, name)) for name in CLASSES)
    return Source(classes, splits, Records())


def training_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """All training images of a folder, in the order of the files: (N, 3, 32, 32) and (N,) labels,
    uint8. Raises DatasetError."""
    if not (paths := find_batches(folder)):
        raise DatasetError(f"{folder}: there is no file {TRAIN}; name a folder of CIFAR-10")
    record_NB = np.concatenate([_records(path) for path in paths])
    return record_NB[:, 1:].reshape(-1, 3, SIDE, SIDE), record_NB[:, 0]


def _samples(path: Path) -> list[Sample]:
    return [
        Sample(f"{CLASSES[label]}/{path.stem}_{number:05d}", label, f"{path}:{number}")
        for number, label in enumerate(_records(path)[:, 0].tolist())
    ]


def _records(path: Path) -> np.ndarray:
    """(N, RECORD_BYTES), a memory map. Raises DatasetError."""
    size = path.stat().st_size
    if not size or size % RECORD_BYTES:
        raise DatasetError(
            f"{path}: {size:,} bytes are no whole number of images of {RECORD_BYTES:,} bytes; "
            "fetch the file again, in the binary version of CIFAR-10"
        )
    record_NB = np.memmap(path, np.uint8, "r", shape=(size // RECORD_BYTES, RECORD_BYTES))
    label_N = record_NB[:, 0].tolist()
    if (most := max(label_N)) >= len(CLASSES):
        raise DatasetError(
            f"{path}: image {label_N.index(most)} has the label {most}, but CIFAR-10 has labels 0 "
            "to 9; fetch the file again, in the binary version of CIFAR-10"
        )
    return record_NB
