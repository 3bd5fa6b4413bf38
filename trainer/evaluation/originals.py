"""Photographs as a user sends them: decoded by the function that the server decodes with."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch

from alexnet.checkpoint import About
from alexnet.command import UserError
from alexnet.pixels import PACKED, ImageError, ImageRule, whole_image
from alexnet.tree import list_entries
from pipeline.dataset import Dataset
from pipeline.order import Shard, share
from pipeline.sources.folder import class_images
from pipeline.sources.ilsvrc import archive_images
from pipeline.sources.label_table import ANY_COLUMNS, Columns
from pipeline.sources.labelled import find_tables, labelled_images
from pipeline.sources.source import Files, Reader, Sample
from pipeline.sources.splits import find_splits
from pipeline.sources.tar import Members
from pipeline.split import PackedSplit
from trainer.evaluation.labels import labels_of
from trainer.evaluation.probabilities import Decoded, Refused

ONE = "give either --data or --originals"
BY_TABLE = ". Where a table says the labels, give it with --labels TABLE"


@dataclass(frozen=True)
class Originals:
    """Files of photographs, scaled to size x size as `rule` has it."""

    served: ClassVar[bool] = True
    files: tuple[str, ...]
    """What `reader` takes."""
    size: int
    rule: ImageRule = PACKED
    reader: Reader = field(default_factory=Files, compare=False)

    def __len__(self) -> int:
        return len(self.files)

    def names(self) -> list[str]:
        return [*self.files]

    def batches(self, shard: Shard, rows: int, threads: int) -> Iterator[Decoded]:
        """What cannot be read or decoded is refused, with the words that the server has for it."""
        batch = shard.count * rows
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(self), batch):
                first, stop, _ = share(len(self), start, batch, shard)
                found = list(pool.map(self._image, range(first, stop)))
                images = {n: p for n, p in enumerate(found, first) if isinstance(p, np.ndarray)}
                refused = tuple(p for p in found if isinstance(p, Refused))
                size = self.size
                image_NSS3 = np.array([*images.values()], np.uint8).reshape(-1, size, size, 3)
                yield Decoded(
                    torch.from_numpy(image_NSS3).permute(0, 3, 1, 2),
                    np.array([*images], np.int64),
                    refused,
                )

    def _image(self, sample: int) -> np.ndarray | Refused:
        try:
            content = self.reader.read(self.files[sample])
            return whole_image(content, self.size, rule=self.rule)
        except (ImageError, OSError) as error:
            return Refused(sample, self.files[sample], str(error))


class Listed(NamedTuple):
    """Photographs in a folder, and what they are of."""

    originals: Originals
    label_N: np.ndarray
    """int64, in the classes of the models."""
    packed_N: np.ndarray | None
    """Which validation image of a dataset each was packed as, where one was given."""


class Labels(NamedTuple):
    """Where the labels of photographs are, if they are not those of class folders."""

    tables: Path
    """A table, or a folder of tables."""
    columns: Columns = ANY_COLUMNS


def list_originals(
    folder: Path, about: About, dataset: Dataset | None, labels: Labels | None = None
) -> Listed:
    """The photographs of the validation split in `folder`, or of `folder` where it has none, in
    class folders of the model's classes, or of some. With `labels`, those that its tables name. Or
    those of an archive of ImageNet's challenge, read in place.

    Of a dataset only those that its validation images were made of, found by their names: so
    that both are asked about the same, and nothing is among them that was trained on. Raises
    UserError.
    """
    root = folder.absolute()  # tasks run elsewhere
    reader: Reader = Files()
    if folder.is_file() and not labels:
        reader = Members()
        ids, samples = archive_images(root)
        label_K = labels_of(dict.fromkeys(ids, root), about.classes)
    elif not folder.is_dir():
        kind = "photographs" if labels else "class folders"
        raise UserError(f"{folder}: there is no such folder; give a folder of {kind}")
    elif labels:
        tables = find_tables(labels.tables)
        rows, samples = labelled_images(root, tables, labels.columns, packed=dataset is not None)
        label_K = labels_of(rows, about.classes)
    else:
        root = find_splits(list_entries(root).folders).val or root
        ids, samples = class_images(root)
        label_K = labels_of({name: root / name for name in ids}, about.classes, BY_TABLE)
    packed_N = None
    if dataset is not None:
        samples, packed_N = _matched(root, samples, dataset)
    return Listed(
        Originals(tuple(sample.location for sample in samples), about.size, about.rule, reader),
        label_K[[sample.label for sample in samples]],
        packed_N,
    )


def _matched(
    root: Path, samples: list[Sample], dataset: Dataset
) -> tuple[list[Sample], np.ndarray]:
    val = dataset.val
    if not isinstance(val, PackedSplit):
        raise UserError(
            f"{dataset.place}: this dataset lists photographs that were not packed; {ONE}"
        )
    place = {key: number for number, key in enumerate(val.keys())}
    if not (matched := [sample for sample in samples if sample.key in place]):
        raise UserError(
            f"{root}: no photograph is named as a validation image of {dataset.place}; {ONE}"
        )
    return matched, np.array([place[sample.key] for sample in matched], np.int64)
