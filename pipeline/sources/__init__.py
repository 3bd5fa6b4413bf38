"""Where photographs come from."""

from pathlib import Path

from alexnet.tree import list_entries, unreadable
from pipeline.manifest import DatasetError
from pipeline.sources.builtin import builtin_source
from pipeline.sources.class_names import read_class_names
from pipeline.sources.folder import folder_source
from pipeline.sources.ilsvrc import TRAIN, ilsvrc_source
from pipeline.sources.imagenette import imagenette_source
from pipeline.sources.shards import holds_shards, shards_source
from pipeline.sources.source import Sample, Source

__all__ = ["WORDS", "Sample", "Source", "open_source"]

BUILTIN = "builtin"
IMAGENETTE = "imagenette"
WORDS = (BUILTIN, IMAGENETTE)
"""Sources that are no folder."""


def open_source(name: str, val_fraction: float, class_names: Path | None) -> Source:
    """The source a user names: a word, or a folder that tells by its content what it is.

    Raises UserError.
    """
    if name == BUILTIN:
        return builtin_source()
    names = read_class_names(class_names)
    if name == IMAGENETTE:
        return imagenette_source(names)
    folder = Path(name).absolute()  # tasks run elsewhere
    try:
        is_folder = folder.is_dir()
    except OSError as error:
        raise unreadable(folder, error) from None
    if not is_folder:
        raise DatasetError(
            f"{folder}: there is no such folder; give a folder of class folders, a folder of "
            f"WebDataset shards, a folder with {TRAIN}, or the word {BUILTIN} or {IMAGENETTE}"
        )
    if folder / TRAIN in list_entries(folder).files:
        return ilsvrc_source(folder, names)
    if holds_shards(folder):
        return shards_source(folder, val_fraction, names)
    return folder_source(folder, val_fraction, names)
