"""The commands that answer, ask and index, and their options."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveInt
from typer import Argument, Option

from alexnet.console import Command, Commands, Options
from serving.settings import Settings

URL = "http://127.0.0.1:8000"


class Classify(Options):
    """Ask a running server what is in photographs."""

    photos: Annotated[tuple[Path, ...], Argument(metavar="PHOTO")] = Field(min_length=1)
    """The files to ask about."""
    url: Annotated[str, Option(metavar="URL")] = URL
    """Where the server is."""
    wait: Annotated[NonNegativeFloat, Option(metavar="SECONDS")] = 0
    """How long to wait for the server to be ready."""
    top_k: PositiveInt = 5
    """How many labels to print for each photograph."""
    key: str | None = None
    """An API key. The environment variable SERVING_KEY keeps it out of the list of processes."""
    json_: bool = False
    """Print one line of JSON for each photograph."""


class Index(Options):
    """Index the training images of a model, to find similar ones.

    Flat is exact and takes 4 bytes for each hidden unit: 16 KB for an image at full width. A search
    reads all of it, which is right for up to some 100,000 images. SQfp16 takes half of that and
    finds 99.9 % of the same six neighbours, SQ8 a quarter and 98.8 %. IVF1024,SQ8 codes the
    difference from the centre of a list, which is finer: it reads a sixteenth of what SQ8 does and
    finds 99.3 %. Each of its lists needs 39 images or more. For the 1.28 million images of ImageNet
    take IVF4096,SQ8: 5.3 GB instead of 21.
    """

    model: Annotated[Path, Argument()]
    """models/NAME or models/NAME/STEP."""
    dataset: Annotated[Path, Argument()]
    """The packed dataset that the model was trained on."""
    factory: Annotated[str, Option(metavar="KIND")] = "Flat"
    """The kind of index, as FAISS writes it."""


COMMANDS = Commands(
    extra="serve",
    by_name={
        "serve": Command(Settings, "serving.commands:serve", "alexnet serve --model models/mine"),
        "classify": Command(
            Classify, "serving.commands:classify", "alexnet classify photo.jpg --wait 60"
        ),
        "index": Command(
            Index, "serving.commands:index", "alexnet index models/mine datasets/mine"
        ),
    },
)
