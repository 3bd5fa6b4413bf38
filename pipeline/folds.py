"""Parts of a dataset's images as datasets of their own, without a copy of any image."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from alexnet import atomic
from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError, Manifest, SplitManifest, SplitName


def fold_of(dataset: Dataset, folds: int) -> np.ndarray:
    """Which of 0 to `folds` - 1 each training image belongs to, int64 (N,): every class is spread
    evenly, in the order of its images. Raises DatasetError where a class would be missing from what
    is left without one fold."""
    count_K = dataset.train_counts()
    if count_K.min() < 2:
        raise DatasetError(
            f"{dataset.place}: the class {dataset.manifest.classes[count_K.argmin()].name} has "
            f"{count_K.min()} training image(s), but one is left out and one trained on; add more"
        )
    order_N = np.argsort(dataset.train.index["label"], kind="stable")
    fold_N = np.empty(len(order_N), np.int64)
    fold_N[order_N] = np.arange(len(order_N)) % folds
    return fold_N


def write_fold(dataset: Dataset, directory: Path, left_out_N: np.ndarray) -> Dataset:
    """Write a dataset into `directory` whose validation images are the training images `left_out_N`
    of a packed `dataset`, and whose training images are the others: by two indexes into its shards,
    which must stay where they are. Mean and colours are those of all, to which no label adds.
    """
    left_N = np.zeros(len(dataset.train), bool)
    left_N[left_out_N] = True
    return _write(
        dataset,
        directory,
        dataset.manifest,
        {"train": ("train", ~left_N), "val": ("train", left_N)},
    )


def write_classes(dataset: Dataset, directory: Path, classes: int) -> Dataset:
    """Write a dataset into `directory` of the images that a packed `dataset` has of its first
    `classes` classes: by two indexes, as `write_fold` does. Mean and colours are those of all."""
    return _write(
        dataset,
        directory,
        dataset.manifest.model_copy(update={"classes": dataset.manifest.classes[:classes]}),
        {name: (name, dataset.split(name).index["label"] < classes) for name in ("train", "val")},
    )


def _write(
    dataset: Dataset,
    directory: Path,
    manifest: Manifest,
    parts: Mapping[SplitName, tuple[SplitName, np.ndarray]],
) -> Dataset:
    """The dataset of `manifest`, but for its splits: each is of the images of a split of `dataset`
    that are chosen, bool (N,)."""
    splits = {}
    for name, (source, chosen_N) in parts.items():
        (directory / name).mkdir(parents=True, exist_ok=True)
        folder, split = dataset.place.absolute() / source, getattr(dataset.manifest, source)
        index = dataset.split(source).index[chosen_N]
        splits[name] = SplitManifest(
            samples=len(index),
            shards=tuple(
                shard.model_copy(update={"file": str(folder / shard.file)})
                for shard in split.shards
            ),
            index_sha256=atomic.write_array(directory / name / "index.npy", index),
        )
    mean = dataset.bring("mean.npy", manifest.mean_sha256)
    shutil.copyfile(mean, directory / "mean.npy")
    part = manifest.model_copy(update=splits | {"quarantined": 0, "duplicates": 0})
    atomic.write(directory / "manifest.json", part.model_dump_json(indent=2).encode())
    return Dataset(directory)
