"""What a run does: recipes, frozen and checked at birth."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from alexnet.command import UserError
from alexnet.model import AlexNetConfig
from pipeline.manifest import Mean
from pipeline.pictures import Damage

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""A run's name is a directory's."""


class RunError(UserError):
    """A run that cannot start or go on; the text names the value and the remedy."""


class Recipe(BaseModel):
    """How a network is trained, whatever the data and the machines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    network: AlexNetConfig
    """Its `classes` are replaced by the dataset's."""
    size: int
    """Rows and columns of the packed pictures that the crop is taken from."""
    batch: int = Field(128, ge=1)
    """Samples per step over all workers (§5)."""
    epochs: int = Field(ge=1)
    rates: tuple[tuple[float, float], ...]
    """(part of the run from which on, rate of the weights); biases learn twice as fast."""
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0005, ge=0)
    mean: Mean = "pixel"
    """What is subtracted: the mean picture, or the mean of each channel."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bfloat16 autocast on hardware that multiplies in it, else float32."""
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        starts = [start for start, _ in self.rates]
        if not starts or starts[0] != 0 or starts != sorted(set(starts)) or starts[-1] >= 1:
            raise ValueError(f"rates start at parts {starts}; they rise from 0 and stay below 1")
        if min(rate for _, rate in self.rates) <= 0:
            raise ValueError(f"rates are {[rate for _, rate in self.rates]}; they must exceed 0")
        return self


def paper() -> Recipe:
    """§5, with the schedule that replaced dropping by hand in the author's later config 170."""
    return Recipe(
        name="paper",
        network=AlexNetConfig(),
        size=256,
        epochs=90,
        rates=((0, 0.01), (0.25, 0.001587), (0.5, 0.000252), (0.75, 0.00004)),
    )


def small() -> Recipe:
    """Half the width on 112 of 128 pixels: minutes on a laptop for ten thousand pictures."""
    return Recipe(
        name="small",
        network=AlexNetConfig(width=0.5, crop=112),
        size=128,
        epochs=12,
        rates=((0, 0.01), (0.6, 0.001), (0.9, 0.0001)),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"paper": paper, "small": small}


class Run(BaseModel):
    """One training run, as it is saved beside its checkpoints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME)
    recipe: Recipe
    data: Path
    """Dataset directory, absolute."""
    dataset: str
    """Digest of the dataset: a run goes on with the data it began with."""
    runs: Path
    """Directory of all runs, absolute, seen by every worker."""
    workers: int = Field(ge=1)
    gpu: bool
    damage: Damage = "error"
    """What to do about a picture that cannot be decoded."""
    hw_load: float | None = Field(None, ge=0, le=1)
    """Share of a GPU's decoding for its JPEG engines; None: each worker tries which is fastest."""

    @property
    def directory(self) -> Path:
        return self.runs / self.name

    @property
    def metrics(self) -> Path:
        """One JSON object a line, appended by rank 0 while it trains."""
        return self.directory / "metrics.jsonl"

    @property
    def stop(self) -> Path:
        """While this file is there, the workers save and end."""
        return self.directory / "stop"


def open_run(run: Run, resume: bool) -> Run:
    """Make the run's directory, or with `resume` check that the one there is of the same run."""
    saved = run.directory / "config.json"
    if not saved.exists():
        if resume:
            raise RunError(f"no run {run.name} in {run.runs} to resume; leave --resume out")
        run.directory.mkdir(parents=True, exist_ok=True)
        saved.write_text(run.model_dump_json(indent=2))
        run.metrics.touch()
        return run
    if not resume:
        raise RunError(
            f"run {run.name} exists in {run.runs}; go on with it by --resume, or name another"
        )
    before = Run.model_validate_json(saved.read_bytes())
    if before.dataset != run.dataset:
        raise RunError(f"run {run.name} began with another dataset, {before.data}; use that one")
    for field, old in before.recipe:
        if old != (new := getattr(run.recipe, field)):
            raise RunError(
                f"run {run.name} began with {field} {old}, now it is {new}; "
                "resume with the same recipe and options"
            )
    return run


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context of a forward pass in `precision` on `device`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def resolve_precision(precision: str, device: torch.device) -> str:
    """`auto` -> what this hardware is fastest in; emulated bfloat16 is slower by far."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        can = torch.cpu.get_capabilities()
        native = bool(can.get("avx512_bf16") or can.get("amx_bf16"))
    return "bf16" if native else "fp32"
