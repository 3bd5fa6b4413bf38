"""The commands that turn photographs into a dataset, and their options."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from typer import Argument, Option

from alexnet.config import MAX_SIZE
from alexnet.console import Command, Commands, Options
from alexnet.pixels import MAX_PIXELS, MOST_PIXELS, SIZE
from alexnet.store.url import Place
from pipeline.sources import BUILTIN, IMAGENETTE
from pipeline.sources.devkit import YEARS
from pipeline.sources.label_table import FILE_COLUMNS, LABEL_COLUMNS
from pipeline.sources.source import MAX_QUARANTINED, VAL_FRACTION

FileColumn = Annotated[
    str | None,
    Option(metavar="NAME"),
    Field(
        description="The column with the names of the photographs. If not given: the one called "
        f"{', '.join(FILE_COLUMNS)}."
    ),
]
LabelColumn = Annotated[
    str | None,
    Option(metavar="NAME"),
    Field(
        description="The column with the labels. If not given: the one called "
        f"{', '.join(LABEL_COLUMNS)}."
    ),
]


class Pack(Options):
    """Pack photographs into a dataset that training can read fast."""

    source: Annotated[str, Argument()] = Field(
        description="A folder with one subfolder of photographs for each class, or a folder with "
        "train/ and val/ of such subfolders. Or a folder of WebDataset shards (*.tar), or with "
        f"train/ and val/ of them. Or a folder with {YEARS[-1].train}, {YEARS[-1].val} and the "
        "development kit, as ILSVRC-2012 is distributed, or the same of ILSVRC-2010. Or "
        "fall11_whole.tar, or a folder of the tars that it holds. Or one of two words: "
        f"{BUILTIN} draws two thousand images of ten classes, {IMAGENETTE} downloads ten classes "
        "of ImageNet (340 MB)."
    )
    dataset: Annotated[Place, Argument()]
    """The folder to write the dataset to, or a URL of object storage: s3://bucket/datasets/mine."""
    size: int = Field(SIZE, ge=64, le=MAX_SIZE)
    """Rows and columns of each packed image: 160 for the recipe small, 256 for paper and fast."""
    val_fraction: float = Field(VAL_FRACTION, gt=0, lt=1)
    """Share of each class that is held out for validation where SOURCE has no val/."""
    class_names: Path | None = None
    """A file of lines `ID name`, such as ImageNet's synset_words.txt. For shards, line n names
    class n, counted from 0."""
    labels: Path | None = None
    """A table with the names of photographs in SOURCE and their labels, as CSV or JSON Lines, or a
    folder of such tables. Without it a metadata.csv or metadata.jsonl in SOURCE is taken."""
    file_column: FileColumn = None
    label_column: LabelColumn = None
    max_quarantined: float = Field(MAX_QUARANTINED, ge=0, le=1)
    """Fail if more than this share of all files cannot be used."""
    max_pixels: int = Field(MAX_PIXELS, ge=1, le=MOST_PIXELS)
    """The most pixels (width x height) of one photograph. Each core decodes one at a time, which
    may take 20 bytes for each of its pixels."""


class Show(Options):
    """Describe a dataset, and draw what the network sees of it."""

    dataset: Annotated[Place, Argument()]
    """A packed dataset, a folder or a URL."""
    sheet: Path = Path("sheet.png")
    """The contact sheet to write."""
    crop: int | None = Field(None, ge=1)
    """Rows and columns of a crop; 7/8 of the image if not given (224 of 256)."""


class Verify(Options):
    """Check every hash, index entry and JPEG of a dataset."""

    dataset: Annotated[Place, Argument()]
    """A packed dataset, a folder or a URL."""


COMMANDS = Commands(
    extra="train",
    by_name={
        "pack": Command(
            Pack, "pipeline.commands:pack", "alexnet pack photos/ datasets/mine --size 160"
        ),
        "show": Command(Show, "pipeline.commands:show", "alexnet show datasets/mine"),
        "verify": Command(Verify, "pipeline.commands:verify", "alexnet verify datasets/mine"),
    },
)
