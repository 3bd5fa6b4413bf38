"""One training run: what it was asked to do, and where it keeps what it makes."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, suppress
from math import ceil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from alexnet.store.url import Place, StoreURL
from pipeline.split import Damage
from trainer.errors import RunError
from trainer.folder.folder import Folder, Lost, open_folder
from trainer.recipe import Recipe

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""A run's name is a directory's."""


class Run(BaseModel):
    """What a run was asked to do, as it is saved beside its checkpoints."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True
    )

    name: str = Field(pattern=NAME)
    recipe: Recipe
    data: Place
    """The dataset: a folder by its absolute path, or a URL."""
    dataset: str
    """Digest of the dataset: a run goes on with the data it began with."""
    runs: Place
    """Directory of all runs, absolute, seen by every worker; or a URL."""
    workers: tuple[int, int]
    """(fewest, most): where they differ, as many as the cluster has at the time."""
    gpu: bool
    deterministic: bool = False
    """Whether GPUs compute by algorithms that repeat to the bit."""
    parallelism: Literal["data", "towers"] = "data"
    """towers: pairs of workers, each with one tower of the network (§3.2)."""
    micro_batch: int | None = Field(None, ge=1, alias="micro")
    """Most samples of a worker's in one pass; None: all its share of the batch."""
    save_every: float = Field(120, ge=0, alias="save_every_s")
    """Seconds between the checkpoints within an epoch: what a killed worker can cost."""
    keep: int = Field(2, ge=1)
    """Checkpoints kept for their accuracy, besides the last."""
    retries: int = Field(3, ge=0)
    """How often in a row a run starts again where a worker died, without a step in between."""
    init_from: Place | None = None
    """A published model whose layers, but for the classifier, the run starts with."""
    damage: Damage = "error"
    """What to do about an image that cannot be decoded."""
    hw_decoder_load: float | None = Field(None, ge=0, le=1, alias="hw_load")
    """Share of a GPU's decoding for its JPEG engines; None: each worker tries which is fastest."""

    parts_of: int | None = Field(None, ge=1)
    """Epochs that colour_until and conv1_until are parts of, where the run has been given others
    since it was past them; None: the recipe's."""

    @property
    def colour_until(self) -> float:
        """The epoch after which images keep their colour."""
        return self.recipe.colour_until * (self.parts_of or self.recipe.epochs)

    @property
    def conv1_until(self) -> float:
        """The epoch after which conv1 is frozen."""
        return self.recipe.conv1_until * (self.parts_of or self.recipe.epochs)

    @property
    def directory(self) -> Place:
        return self.runs / self.name

    @property
    def folder(self) -> Folder:
        """What can be done with the directory."""
        return open_folder(self.directory)

    @property
    def metrics(self) -> Place:
        """One JSON object a line, written by rank 0 while it trains."""
        return metrics_of(self.directory)

    @property
    def board(self) -> Place:
        """TensorBoard's events."""
        return self.directory / "tensorboard"

    @property
    def stop(self) -> Place:
        """While this file is there, the workers save and end."""
        return self.directory / "stop"

    def held(self) -> AbstractContextManager[Lost]:
        """Lets this process alone train the run for the length of a block. Raises RunError."""
        return self.folder.held(
            f"run {self.name} is being trained already; "
            f"to end it: `alexnet stop {self.name} --runs {self.runs}`"
        )


def metrics_of(directory: Place) -> Place:
    """Where the run in `directory` has its events: a file, or in a store the parts of one."""
    return directory / ("metrics" if isinstance(directory, StoreURL) else "metrics.jsonl")


CONFIG = "config.json"
Resume = Literal["no", "yes", "if-any"]
"""Whether to go on with the run of that name; if-any: where there is one, else start it."""


def open_run(run: Run, resume: Resume) -> Run:
    """Make the run's directory, or check that the one to resume is of the same run; it may get
    other epochs where those it has trained stay as they are. Raises RunError."""
    config = run.model_dump_json(indent=2).encode()
    if resume == "yes":
        if not run.folder.exists():
            raise RunError(
                f"there is no run {run.name} in {run.runs} to resume; leave out --resume"
            )
    elif run.folder.create(config):
        return run
    if resume == "no":
        raise RunError(
            f"run {run.name} exists already in {run.runs}; continue it with --resume, "
            "or choose another --name"
        )
    before = find_run(run.runs, run.name)
    if before.dataset != run.dataset:
        raise RunError(
            f"run {run.name} began with another dataset than {run.data}; "
            f"resume it with that of {before.data}"
        )
    # A run that began before there was this field goes on without.
    recipe = run.recipe.model_copy(update={"folded": before.recipe.folded})
    run = run.model_copy(update={"recipe": recipe})
    for field, old in before.recipe:
        if old != (new := getattr(run.recipe, field)) and field not in ("epochs", "least_steps"):
            raise RunError(
                f"run {run.name} began with {field} = {old}, but now it is {new}; "
                "resume it with the same recipe and options"
            )
    run = run.model_copy(update={"parts_of": before.parts_of})
    if before.recipe.epochs != run.recipe.epochs:
        run = _with_other_epochs(before, run)
    # Its data may be another copy of the dataset.
    run.folder.write(CONFIG, run.model_dump_json(indent=2).encode())
    return run


def _with_other_epochs(before: Run, run: Run) -> Run:
    """`run`, which goes on with other epochs than `before`. Raises RunError where the learning
    rates that it had so far would have been others in a run of so many."""
    name, old, new = run.name, before.recipe.epochs, run.recipe.epochs
    told = [event["epoch"] for event in events(before.metrics) if event["kind"] == "train"]
    trained = told[-1] if told else 0
    if trained > new:
        raise RunError(
            f"run {name} has trained {trained:.4g} epochs already, but --epochs is {new}; resume "
            f"it with {ceil(trained)} or more, or publish what it has: `alexnet publish {name}`"
        )
    if not run.recipe.schedule.agrees(trained, min(old, new)):
        raise RunError(
            f"run {name} has trained {trained:.4g} of {old} epochs, and of {new} these would have "
            f"had other learning rates (schedule {run.recipe.schedule.kind}); resume it with "
            f"--epochs {old}, or publish it (`alexnet publish {name}`) and train its weights on in "
            f"another run: --name OTHER --init-from models/{name}"
        )
    base = before.parts_of or old
    for part in (run.recipe.colour_until, run.recipe.conv1_until):
        switched = {ceil(part * base), ceil(part * new)}
        if len(switched) == 2 and trained > min(switched):
            return run.model_copy(update={"parts_of": base})
    return run.model_copy(update={"parts_of": None})


def trained_epochs(run: Run) -> int:
    """Whole epochs that the run was last validated after; 0 before the first."""
    told = [event["epoch"] for event in events(run.metrics) if event["kind"] == "val"]
    return told[-1] if told else 0


def find_run(runs: Place, name: str) -> Run:
    """The run in the folder `runs`/`name`, which may have been moved since. Raises RunError."""
    saved = runs / name / CONFIG
    try:
        config = open_folder(runs / name).read(CONFIG)
    except OSError as error:
        raise no_run(saved, error) from None
    try:
        run = Run.model_validate_json(config)
        here = run.model_copy(update={"runs": runs.absolute(), "name": name})
        before = run.directory
        if (
            isinstance(before, Path)
            and isinstance(run.data, Path)
            and run.data.is_relative_to(before)
        ):  # a list of photographs, which moves with the run
            data = here.directory / str(run.data.relative_to(before))
            here = here.model_copy(update={"data": data})
        return here
    except ValueError:
        raise RunError(
            f"{saved}: another version wrote the file, or it was edited by hand; start another run"
        ) from None


def ask_to_stop(run: Run) -> None:
    """Have its workers save a checkpoint and end. Raises RunError if nothing trains it."""
    try:
        with run.held():
            pass
    except RunError:
        with closing(run.folder.stop()) as stop:
            stop.ask()
    else:
        raise RunError(f"run {run.name} is not running, so there is nothing to stop")


def no_run(file: Place, error: OSError) -> RunError:
    """Why a file of a run cannot be read."""
    return RunError(f"{file}: {error.strerror}; check the run's name, and --runs")


def events(metrics: Place) -> Iterator[dict[str, Any]]:
    """The events of a run in the order in which they were written. Raises RunError."""
    try:
        lines = open_folder(metrics.parent).metrics()
    except OSError as error:
        raise no_run(metrics, error) from None
    for line in lines:
        with suppress(json.JSONDecodeError):  # half a line, where a worker was killed
            yield json.loads(line)
