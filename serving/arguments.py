"""The commands that answer and ask, and their options."""

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
    """The files to ask about; of folders, all photographs in them; - for standard input."""
    url: Annotated[str, Option(metavar="URL")] = URL
    """Where the server is."""
    wait: Annotated[NonNegativeFloat, Option(metavar="SECONDS")] = 0
    """How long to wait for the server to be ready."""
    top_k: PositiveInt = 5
    """How many labels to print for each photograph."""
    min_probability: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    """The least probability of an answer; to less probable ones it is added that the photograph
    shows none of the classes. If not given, what was published with the model, if anything was."""
    key: str | None = None
    """An API key. The environment variable SERVING_KEY keeps it out of the list of processes."""
    json_: bool = False
    """Print one line of JSON for each photograph."""


COMMANDS = Commands(
    extra="serve",
    by_name={
        "serve": Command(Settings, "serving.commands:serve", "alexnet serve --model models/mine"),
        "classify": Command(
            Classify, "serving.commands:classify", "alexnet classify photo.jpg --wait 60"
        ),
    },
)
