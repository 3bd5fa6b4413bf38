"""Where photographs come from."""

import sys
from pathlib import Path

from alexnet.store.url import StoreURL, place
from alexnet.tree import list_entries, unreadable
from pipeline.manifest import DatasetError
from pipeline.sources.builtin import builtin_source
from pipeline.sources.cifar import cifar_source, find_batches
from pipeline.sources.class_names import read_class_names
from pipeline.sources.devkit import YEARS
from pipeline.sources.folder import folder_source
from pipeline.sources.ilsvrc import find_year, ilsvrc_source
from pipeline.sources.imagenette import imagenette_source
from pipeline.sources.label_table import ANY_COLUMNS, Columns
from pipeline.sources.labelled import find_metadata, find_tables, labelled_source
from pipeline.sources.remote import remote_source
from pipeline.sources.shards import holds_shards, shards_source
from pipeline.sources.source import Sample, Source
from pipeline.sources.synsets import find_archives, synsets_source

__all__ = ["WORDS", "Columns", "Sample", "Source", "open_source", "photographs_source"]

BUILTIN = "builtin"
IMAGENETTE = "imagenette"
WORDS = (BUILTIN, IMAGENETTE)
"""Sources that are no folder."""


def open_source(
    name: str,
    val_fraction: float,
    class_names: Path | None,
    labels: Path | None = None,
    columns: Columns = ANY_COLUMNS,
) -> Source:
    """The source a user names: a word, a tar of synsets, or a folder that tells by its content what
    it is, unless `labels` is the table, or the folder of tables, with the labels of what is in it.
    Tar and folder are on disk, or have a URL.

    Raises UserError.
    """
    asked = "--labels" if labels else "--file-column" if columns.file else "--label-column"
    if name in WORDS and (labels or any(columns)):
        raise DatasetError(f"{asked} is for folders of photographs; leave it out for {name}")
    if name == BUILTIN:
        return builtin_source()
    if isinstance(url := place(name), StoreURL):
        return remote_source(
            url, lambda at: open_source(str(at), val_fraction, class_names, labels, columns)
        )
    names = read_class_names(class_names)
    if name == IMAGENETTE:
        return imagenette_source(names)
    folder = Path(name).absolute()  # tasks run elsewhere
    try:
        is_folder, is_tar = folder.is_dir(), folder.is_file() and folder.suffix == ".tar"
    except OSError as error:
        raise unreadable(folder, error) from None
    if is_tar and not (labels or any(columns)):
        return synsets_source([folder], val_fraction, names)
    if not is_folder:
        raise DatasetError(
            f"{folder}: there is no such folder; give a folder of class folders, a folder of "
            f"WebDataset shards, a folder with {YEARS[-1].train}, a tar of ImageNet's synsets, or "
            f"the word {BUILTIN} or {IMAGENETTE}"
        )
    if labels:
        return labelled_source(folder, find_tables(labels), columns, val_fraction, names)
    if any(columns) and not find_metadata(folder, columns):
        raise DatasetError(
            f"{asked} names a column, but {folder} has no metadata.csv or metadata.jsonl with it; "
            "name the table with --labels"
        )
    if year := find_year(list_entries(folder).files):
        return ilsvrc_source(folder, year, names)
    if find_batches(folder):
        return cifar_source(folder, val_fraction, names)
    if archives := find_archives(folder):
        return synsets_source(archives, val_fraction, names)
    if holds_shards(folder):
        return shards_source(folder, val_fraction, names)
    return photographs_source(folder, val_fraction, names, columns)


def photographs_source(
    folder: Path,
    val_fraction: float,
    class_names: dict[str, str],
    columns: Columns = ANY_COLUMNS,
) -> Source:
    """Files in a folder, with labels by the metadata in it, else by class folders. Raises
    UserError."""
    if tables := find_metadata(folder, columns):
        print(f"{folder}: the labels are those of {_names(tables, folder)}", file=sys.stderr)
        return labelled_source(folder, tables, columns, val_fraction, class_names)
    return folder_source(folder, val_fraction, class_names)


def _names(tables: list[Path], folder: Path) -> str:
    return ", ".join(str(path.relative_to(folder)) for path in tables)
