"""A published model on disk: weights and all that a server must know, found whole or not at all.

models/NAME/STEP/model.safetensors   weights and the mean image
models/NAME/STEP/about.json          the rest, with the SHA-256 of the weights
models/NAME/current.json             which STEP to serve; replaced last
"""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from alexnet import atomic, golden, regular
from alexnet.calibration import Calibration, Count
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from alexnet.config import MAX_SIZE
from alexnet.fault import fault
from alexnet.golden import Golden
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.pixels import ImageRule
from alexnet.text import Name, unprintable

WEIGHTS, ABOUT, POINTER = "model.safetensors", "about.json", "current.json"
MEAN, WHOLE_MEAN = "mean_3HW", "mean_3SS"
MAX_PARAMETERS = 2**30
"""Weights and biases at most; the widest network of a thousand classes has 0.95e9."""
MAX_ABOUT_BYTES, MAX_POINTER_BYTES, MAX_HEADER_BYTES = 2**22, 2**12, 2**20
"""The longest about.json and current.json, and the longest header of model.safetensors."""
Shapes = dict[str, tuple[int, ...]]


class CheckpointError(UserError):
    """A model that is absent, damaged or of another version; the text names file and remedy."""


class Accuracy(BaseModel):
    """Exact counts over the validation images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: Literal[1, 10]
    pictures: Count = Field(ge=1)
    top1: Count
    """Images whose most probable label is the right one."""
    top5: Count
    """Images whose right label is among the five most probable."""
    macro_top1: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    """Mean, over the classes that have images, of the share of them whose most probable label is
    right; None in models that were published before it was measured."""

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if not self.top1 <= self.top5 <= self.pictures:
            raise ValueError(
                f"of {self.pictures} images {self.top1} are right, and {self.top5} among the best "
                "five: these counts cannot be"
            )
        return self


class About(BaseModel):
    """Everything a server knows of a model, besides its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    name: Name = Field(min_length=1)
    step: Count
    network: AlexNetConfig
    classes: tuple[ClassLabel, ...]
    size: int = Field(ge=64, le=MAX_SIZE)
    """Rows and columns of the whole image that the views are cut from."""
    rule: ImageRule = ImageRule()
    """How that image is made of a photograph."""
    dataset: Name | None
    """SHA-256 that names the training data; None where it is not known: the model is imported."""
    recipe: dict[str, Any]
    """How it was trained, or what it was imported from."""
    accuracy: tuple[Accuracy, ...] = Field((), max_length=2)
    trained_at: datetime | None
    """None for an imported model."""
    versions: dict[Name, Name]
    weights_sha256: str = Field("", pattern="^([0-9a-f]{64})?$")
    """Filled in by `save`, as is the next."""
    golden: Golden | None = None
    """What the model said when it was published, before any calibration; None in models from
    before that was recorded."""
    calibrations: tuple[Calibration, ...] = Field((), max_length=2)
    """For answers by one view and by ten, made by `alexnet evaluate --calibrate`."""

    def calibration(self, views: int) -> Calibration | None:
        """The one for so many views."""
        return next((c for c in self.calibrations if c.views == views), None)

    def temperature(self, views: int) -> float:
        """What the logits of each of so many views are divided by: 1 without a calibration."""
        found = self.calibration(views)
        return found.temperature if found else 1.0

    def min_probability(self, views: int) -> float | None:
        """The least probability of an answer by so many views; None where none was published."""
        found = self.calibration(views)
        return found.threshold.min_probability if found and found.threshold else None

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if len(self.classes) != self.network.classes:
            raise ValueError(
                f"it names {len(self.classes)} classes, but its network has {self.network.classes}"
            )
        if len({label.id for label in self.classes}) < len(self.classes):
            raise ValueError("two of its classes have the same id")
        if self.network.crop > self.size:
            raise ValueError(
                f"views of {self.network.crop} pixels cannot be cut from an image of {self.size}"
            )
        if len({c.views for c in self.calibrations}) < len(self.calibrations):
            raise ValueError("two of its calibrations are for the same number of views")
        if self.golden and max(self.golden.labels) >= self.network.classes:
            raise ValueError(f"its golden answer has the label {max(self.golden.labels)}")
        return self


class Checkpoint(NamedTuple):
    model: AlexNet
    """The network in evaluation mode, on the CPU."""
    mean_3HW: Tensor
    """The mean image, float32, crop x crop, 0..255; subtracted from every view."""
    about: About
    whole_mean_3SS: Tensor | None = None
    """Of models imported from Caffe with a mean image: all of it, size x size. What is subtracted
    from a view lies where the view does, and is mirrored with it; `mean_3HW` is the centre."""


def save(
    model: AlexNet,
    mean_3HW: Tensor,
    about: About,
    models: Path,
    whole_mean_3SS: Tensor | None = None,
) -> Path:
    """Publish to `models`/NAME/STEP and point NAME at it; returns that directory.

    A reader finds the old model or the new one, never a part: everything is written under a
    temporary name, synced and renamed, the pointer last. The same weights published again keep
    their file, and what was measured of them is added to. Raises UserError for a model that does
    not answer with probabilities, and for other weights of the same name and step.
    """
    training = model.training
    answer = golden.answer(model.eval(), mean_3HW, about.size)
    model.train(training)
    home = models / about.name
    home.mkdir(parents=True, exist_ok=True)
    target = home / f"{about.step:08d}"
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    means = {MEAN: mean_3HW.contiguous()}
    if whole_mean_3SS is not None:
        means[WHOLE_MEAN] = whole_mean_3SS.contiguous()
    weights = save_tensors(tensors | means)
    digest = hashlib.sha256(weights).hexdigest()
    about = about.model_copy(update={"weights_sha256": digest, "golden": answer})

    if target.exists():
        about = joined(read_about(target), about, target)
        atomic.write(target / ABOUT, written(about))
    else:
        with tempfile.TemporaryDirectory(prefix=".partial.", dir=home) as temporary:
            partial = Path(temporary) / target.name
            partial.mkdir()
            atomic.write(partial / WEIGHTS, weights)
            atomic.write(partial / ABOUT, written(about))
            partial.rename(target)
    atomic.write(home / POINTER, pointer(about, target.name))
    return target


def joined(published: About, about: About, step: object) -> About:
    """What `step` says once a model is published there again: what was measured of the same weights
    is kept. Raises CheckpointError for other weights."""
    if published.weights_sha256 != about.weights_sha256:
        raise other_weights(step)
    measured = {a.views: a for a in (*published.accuracy, *about.accuracy)}
    accuracy = tuple(measured[views] for views in sorted(measured))
    about = about.model_copy(update={"accuracy": accuracy})
    return calibrated(about, (*published.calibrations, *about.calibrations))


def other_weights(step: object) -> CheckpointError:
    return CheckpointError(
        f"{step}: other weights are already published under this name and step; choose another name"
    )


def written(about: About) -> bytes:
    """about.json."""
    return about.model_dump_json(indent=2).encode()


def pointer(about: About, folder: str) -> bytes:
    """current.json, for a model in this folder beside it."""
    said = {"step": about.step, "directory": folder, "sha256": about.weights_sha256}
    return json.dumps(said).encode()


def calibrate(directory: Path, calibrations: Sequence[Calibration]) -> None:
    """Keep calibrations with the model in models/NAME/STEP, each in the place of an earlier one for
    as many views; a server that answers by the model takes them. Raises CheckpointError, and
    UserError where the folder cannot be written."""
    about = read_about(directory)
    about = calibrated(about, (*about.calibrations, *calibrations))
    atomic.write(directory / ABOUT, written(about))


def calibrated(about: About, calibrations: Sequence[Calibration]) -> About:
    """With the last of them for each number of views."""
    by_views = {c.views: c for c in calibrations}
    kept = tuple(by_views[views] for views in sorted(by_views))
    return about.model_copy(update={"calibrations": kept})


def load(directory: Path) -> Checkpoint:
    """The model in `directory`: models/NAME, which means its current step, or models/NAME/STEP.

    Raises CheckpointError: what is published is taken for a stranger's. Its weights must be those
    of the recorded SHA-256, finite, and have the shapes that its network has.
    """
    directory = current(directory)
    about = read_about(directory)
    path = directory / WEIGHTS
    with torch.device("meta"):
        model = AlexNet(about.network)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shapes[MEAN] = (3, about.network.crop, about.network.crop)
    optional: Shapes = {WHOLE_MEAN: (3, about.size, about.size)}
    tensors = _read_tensors(path, shapes, optional, about.weights_sha256)
    mean_3HW, whole_mean_3SS = tensors.pop(MEAN), tensors.pop(WHOLE_MEAN, None)
    model.load_state_dict(tensors, assign=True)
    return Checkpoint(model.eval().requires_grad_(False), mean_3HW, about, whole_mean_3SS)


def parameters(network: AlexNetConfig) -> int:
    """How many weights and biases the network has."""
    with torch.device("meta"):
        return sum(tensor.numel() for tensor in AlexNet(network).parameters())


def _read_tensors(path: Path, needed: Shapes, optional: Shapes, sha256: str) -> dict[str, Tensor]:
    """Tensors of float32 in these shapes, all that are needed and no others. Raises
    CheckpointError."""
    shapes = needed | optional
    numbers = sum(map(prod, shapes.values()))
    if numbers > MAX_PARAMETERS:
        raise CheckpointError(
            f"{path.parent / 'about.json'}: its network has {numbers:,} weights; the limit is "
            f"{MAX_PARAMETERS:,}; publish a smaller one"
        )
    try:
        weights = regular.read(path, 4 * numbers + MAX_HEADER_BYTES)
    except OSError as error:
        raise _unreadable(error) from None
    if (found := hashlib.sha256(weights).hexdigest()) != sha256:
        raise CheckpointError(
            f"{path}: the file is damaged: its SHA-256 is {found[:12]}…, but about.json says "
            f"{sha256[:12]}…; publish the model again"
        )
    try:
        tensors = load_tensors(weights)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path}: this is not a safetensors file ({error}); publish the model again"
        ) from None
    if odd := sorted((needed.keys() - tensors.keys()) | (tensors.keys() - shapes.keys())):
        raise CheckpointError(
            f"{path}: the tensor {odd[0][:80]!r} is {'missing' if odd[0] in shapes else 'unknown'}"
            "; publish the model again"
        )
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or tensor.shape != shapes[name]:
            raise CheckpointError(
                f"{path}: {name} should be float32 of the shape {shapes[name]}, but is "
                f"{str(tensor.dtype).removeprefix('torch.')} of {tuple(tensor.shape)}; publish the "
                "model again"
            )
        if not np.isfinite(tensor.numpy()).all():  # torch would start threads, which no fork has
            raise CheckpointError(
                f"{path}: {name} holds numbers that are not finite: the model's training diverged; "
                "publish an earlier checkpoint"
            )
    return tensors


def read_about(directory: Path) -> About:
    """What is known of the model in models/NAME/STEP. Raises CheckpointError."""
    path = directory / ABOUT
    try:
        data = regular.read(path, MAX_ABOUT_BYTES)
    except OSError as error:
        raise _unreadable(error) from None
    return parsed_about(data, path)


def parsed_about(data: bytes, path: object) -> About:
    """What the about.json at `path` says. Raises CheckpointError."""
    try:
        about = About.model_validate_json(data)
        regular.parsed(data)  # for what pydantic lets pass
    except ValueError as error:
        reason = fault(error) if isinstance(error, ValidationError) else error
        raise CheckpointError(
            f"{path}: {reason}; "
            "another version wrote the file, or it was edited by hand; publish the model again"
        ) from None
    return about


def current(directory: Path) -> Path:
    """The step's directory that `directory` means; models/NAME is followed to its current step."""
    path = directory / POINTER
    if path.exists():
        try:
            return directory / pointed(regular.read(path, MAX_POINTER_BYTES), path)
        except OSError as error:
            raise _unreadable(error) from None
    if (directory / ABOUT).exists():
        return directory
    raise unpublished(directory)


def unpublished(model: object) -> CheckpointError:
    return CheckpointError(
        f"{model}: there is no published model (neither current.json nor about.json); "
        "check the name, or train one: `alexnet train`, or with Compose `submit train`"
    )


def pointed(data: bytes, path: object) -> str:
    """The folder beside it that the current.json at `path` names. Raises CheckpointError."""
    try:
        return _folder(regular.parsed(data))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: the file does not name the model's current step ({error}); "
            "publish the model again"
        ) from None


def _folder(pointer: dict[str, Any]) -> str:
    """The name of a folder beside the pointer, which cannot lead elsewhere. Raises ValueError."""
    name = pointer["directory"]
    if not name or Path(name).name != name or name == ".." or unprintable(name) or len(name) > 255:
        raise ValueError(f"{name[:80]!r} is not the name of a folder beside it")
    return name


def _unreadable(error: OSError) -> CheckpointError:
    return CheckpointError(f"{error.filename}: {error.strerror}; publish the model again")


def now() -> datetime:
    """The time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
