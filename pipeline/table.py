"""A dataset's manifest, for people."""

import numpy as np

from pipeline.dataset import Dataset

BAR = 40
CLASSES = 30
UNEVEN = 10
"""How many times as many training images a class may have as another before it is worth a word."""


def describe(dataset: Dataset) -> str:
    """The manifest as a table, and how many training and validation images each class has."""
    manifest = dataset.manifest
    train, val, colour = manifest.train, manifest.val, manifest.colour
    quality = "not packed" if manifest.jpeg_quality is None else f"JPEG {manifest.jpeg_quality}"
    deviations = " ".join(f"{root:.1f}" for root in np.sqrt(colour.eigenvalues))
    rows = {
        "images": f"{train.samples:,} for training, {val.samples:,} for validation",
        "classes": f"{len(manifest.classes):,}",
        "size": f"{manifest.size} x {manifest.size} pixels, {manifest.filter}, {quality}",
        "shards": f"{len(train.shards):,} for training, {len(val.shards):,} for validation, "
        f"{sum(shard.size for shard in (*train.shards, *val.shards)) / 1e6:,.1f} MB",
        "mean red, green, blue": " ".join(f"{value:.2f}" for value in colour.mean),
        "standard deviation by principal colour": deviations,
        "quarantined files": f"{manifest.quarantined:,}",
        "validation images also in training": f"{manifest.duplicates:,}",
        "SHA-256 of the dataset": dataset.digest,
        "SHA-256 of the source": manifest.source,
    }
    width = max(map(len, rows))
    lines = [f"{name:<{width}}  {value}" for name, value in rows.items()]
    return "\n".join([*lines, "", *_histogram(dataset), *uneven(dataset)])


def uneven(dataset: Dataset) -> list[str]:
    """A line that names the largest and the smallest class, where they are far apart."""
    count_K = dataset.train_counts()
    large, small = int(count_K.argmax()), int(count_K.argmin())
    if count_K[large] <= UNEVEN * count_K[small]:
        return []
    names = [label.name for label in dataset.manifest.classes]
    return [
        f"the classes are uneven: {names[large]} has {count_K[large]:,} training images, "
        f"{names[small]} {count_K[small]:,}; `alexnet train --balance sampling` gives all "
        "classes the same weight"
    ]


def _histogram(dataset: Dataset) -> list[str]:
    """A bar a class, in label order; of many classes the smallest and the largest."""
    classes = dataset.manifest.classes
    train_K = dataset.train_counts()
    val_K = np.bincount(dataset.val.index["label"], minlength=len(classes))
    shown = np.arange(len(classes))
    if len(classes) > CLASSES:
        by_size = np.argsort(train_K, kind="stable")
        shown = np.concatenate([by_size[: CLASSES // 2], by_size[-CLASSES // 2 :]])
    width = min(24, max(len(classes[label].name) for label in shown))
    lines = [f"{'class':<{width}}  {'train':>7}  {'val':>6}"]
    for label in shown:
        bar = "█" * max(1, round(BAR * train_K[label] / train_K.max()))
        name = classes[label].name[:width]
        lines.append(f"{name:<{width}}  {train_K[label]:>7,}  {val_K[label]:>6,}  {bar}")
    if len(shown) < len(classes):
        half = CLASSES // 2
        lines.append(f"(the {half} smallest and the {half} largest of {len(classes):,} classes)")
    return lines
