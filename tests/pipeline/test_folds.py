"""Parts of the training images as datasets, held to the images themselves."""

from pathlib import Path

import numpy as np

from pipeline.dataset import Dataset
from pipeline.folds import fold_of, write_classes, write_fold


def test_every_image_is_left_out_once_and_every_class_evenly(dataset: Path, tmp_path: Path) -> None:
    packed = Dataset(dataset)
    label_N = packed.train.label(np.arange(len(packed.train)))
    fold_N = fold_of(packed, 5)
    for label in range(3):
        count_F = np.bincount(fold_N[label_N == label], minlength=5)
        assert count_F.max() - count_F.min() <= 1
    jpegs = [bytes(packed.train.jpeg(sample)) for sample in range(len(packed.train))]
    left_out_N = np.flatnonzero(fold_N == 2)
    fold = write_fold(packed, tmp_path / "fold", left_out_N)
    for split, sample_M in ((fold.val, left_out_N), (fold.train, np.flatnonzero(fold_N != 2))):
        assert [bytes(j) for j in split.jpegs(np.arange(len(split)))] == [
            jpegs[n] for n in sample_M
        ]
        assert (split.label(np.arange(len(split))) == label_N[sample_M]).all()
        assert split.names(np.arange(3)) == packed.train.names(sample_M[:3])
    assert fold.digest == write_fold(packed, tmp_path / "fold", left_out_N).digest
    bytes_there = sum(f.stat().st_size for f in (tmp_path / "fold").rglob("*") if f.is_file())
    assert bytes_there < 250_000  # the mean image, and no other


def test_the_first_classes_have_the_images_that_they_had(dataset: Path, tmp_path: Path) -> None:
    packed = Dataset(dataset)
    part = write_classes(packed, tmp_path / "part", 2)
    assert part.manifest.classes == packed.manifest.classes[:2]
    for split, whole in ((part.train, packed.train), (part.val, packed.val)):
        label_N = whole.label(np.arange(len(whole)))
        sample_M = np.flatnonzero(label_N < 2)
        every_M = np.arange(len(sample_M))
        assert (split.label(every_M) == label_N[sample_M]).all()
        assert split.names(every_M) == whole.names(sample_M)
        images, expected = (s.jpegs(n) for s, n in ((split, every_M), (whole, sample_M)))
        assert [bytes(i) for i in images] == [bytes(i) for i in expected]
