"""A published model on disk: weights and all that a server must know, found whole or not at all.

models/NAME/STEP/model.safetensors   weights and the mean image
models/NAME/STEP/about.json          the rest, with the SHA-256 of the weights
models/NAME/current.json             which STEP to serve; replaced last
"""

import hashlib
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from alexnet import atomic, golden
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from alexnet.fault import fault
from alexnet.golden import Golden
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.pixels import ImageRule

MEAN, WHOLE_MEAN = "mean_3HW", "mean_3SS"


class CheckpointError(UserError):
    """A model that is absent, damaged or of another version; the text names file and remedy."""


class Accuracy(BaseModel):
    """Exact counts over the validation images."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    views: Literal[1, 10]
    pictures: int = Field(ge=1)
    top1: int = Field(ge=0)
    """Images whose most probable label is the right one."""
    top5: int = Field(ge=0)
    """Images whose right label is among the five most probable."""


class About(BaseModel):
    """Everything a server knows of a model, besides its tensors."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    name: str
    step: int = Field(ge=0)
    network: AlexNetConfig
    classes: tuple[ClassLabel, ...]
    size: int = Field(ge=64)
    """Rows and columns of the whole image that the views are cut from."""
    rule: ImageRule = ImageRule()
    """How that image is made of a photograph."""
    dataset: str | None
    """SHA-256 that names the training data; None where it is not known: the model is imported."""
    recipe: dict[str, Any]
    """How it was trained, or what it was imported from."""
    accuracy: tuple[Accuracy, ...] = ()
    trained_at: datetime | None
    """None for an imported model."""
    versions: dict[str, str]
    weights_sha256: str = ""
    """Filled in by `save`, as is the next."""
    golden: Golden | None = None
    """What the model said when it was published; None in models from before that was recorded."""


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
        published = read_about(target)
        if published.weights_sha256 != about.weights_sha256:
            raise CheckpointError(
                f"{target}: other weights are already published under this name and step; "
                "choose another name"
            )
        measured = {a.views: a for a in (*published.accuracy, *about.accuracy)}
        accuracy = tuple(measured[views] for views in sorted(measured))
        about = about.model_copy(update={"accuracy": accuracy})
        atomic.write(target / "about.json", about.model_dump_json(indent=2).encode())
    else:
        with tempfile.TemporaryDirectory(prefix=".partial.", dir=home) as temporary:
            partial = Path(temporary) / target.name
            partial.mkdir()
            atomic.write(partial / "model.safetensors", weights)
            atomic.write(partial / "about.json", about.model_dump_json(indent=2).encode())
            partial.rename(target)
    pointer = {"step": about.step, "directory": target.name, "sha256": about.weights_sha256}
    atomic.write(home / "current.json", json.dumps(pointer).encode())
    return target


def load(directory: Path) -> Checkpoint:
    """The model in `directory`: models/NAME, which means its current step, or models/NAME/STEP.

    Raises CheckpointError; weights that differ from their recorded SHA-256 are refused.
    """
    directory = current(directory)
    about = read_about(directory)
    try:
        weights = (directory / "model.safetensors").read_bytes()
    except OSError as error:
        raise _unreadable(error) from None
    if (found := hashlib.sha256(weights).hexdigest()) != about.weights_sha256:
        raise CheckpointError(
            f"{directory / 'model.safetensors'}: the file is damaged: its SHA-256 is "
            f"{found[:12]}…, but about.json says {about.weights_sha256[:12]}…; publish the model "
            "again"
        )
    tensors = load_tensors(weights)
    mean_3HW, whole_mean_3SS = tensors.pop(MEAN), tensors.pop(WHOLE_MEAN, None)
    with torch.device("meta"):
        model = AlexNet(about.network)
    model.load_state_dict(tensors, assign=True)
    return Checkpoint(model.eval().requires_grad_(False), mean_3HW, about, whole_mean_3SS)


def read_about(directory: Path) -> About:
    """What is known of the model in models/NAME/STEP. Raises CheckpointError."""
    try:
        return About.model_validate_json((directory / "about.json").read_bytes())
    except OSError as error:
        raise _unreadable(error) from None
    except ValidationError as error:
        raise CheckpointError(
            f"{directory / 'about.json'}: {fault(error)}; "
            "another version wrote the file, or it was edited by hand; publish the model again"
        ) from None


def current(directory: Path) -> Path:
    """The step's directory that `directory` means; models/NAME is followed to its current step."""
    pointer = directory / "current.json"
    if pointer.exists():
        try:
            return directory / json.loads(pointer.read_bytes())["directory"]
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{pointer}: the file does not name the model's current step ({error}); "
                "publish the model again"
            ) from None
    if (directory / "about.json").exists():
        return directory
    raise CheckpointError(
        f"{directory}: there is no published model (neither current.json nor about.json); "
        "check the name, or train one: `alexnet train`, or with Compose `submit train`"
    )


def _unreadable(error: OSError) -> CheckpointError:
    return CheckpointError(f"{error.filename}: {error.strerror}; publish the model again")


def now() -> datetime:
    """The time in UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
