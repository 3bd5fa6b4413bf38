"""Two well-known networks from elsewhere -> a published model: torchvision's, and Caffe's.

Whatever is the same arithmetic goes into the weights: the scale of the pixels and the order of
their colours into conv1's, and as both scale up in training what dropout leaves, where 2012 scales
down at test, twice the weights of fc7 and fc8 undo that: exactly, and in further training as well.
What is other arithmetic is an option of the network, or the rule that makes the image.
"""

import hashlib
import re
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from alexnet import checkpoint
from alexnet.checkpoint import About
from alexnet.classes import ClassLabel
from alexnet.command import UserError
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.pixels import SIZE, ImageRule
from alexnet.text import read_names
from alexnet.views import centre_mean
from trainer.arguments import Family

PARTS = ("weight", "bias")
LAYERS = {
    "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
    "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6",
}  # fmt: skip
"""{our and Caffe's layer: torchvision's}, from torchvision/models/alexnet.py."""
TORCHVISION = {f"{our}.{part}": f"{t}.{part}" for our, t in LAYERS.items() for part in PARTS}
CAFFE = {f"{our}.{part}": f"{our}.{n}" for our in LAYERS for n, part in enumerate(PARTS)}
"""{our tensor: theirs}, all of them."""

TORCHVISION_MEAN, TORCHVISION_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""RGB on the scale 0..1: `AlexNet_Weights.IMAGENET1K_V1.transforms()`."""

CAFFE_MEAN = (104.0069879317889, 116.66876761696767, 122.6789143406786)
"""BGR: the channels' means of Caffe's ilsvrc_2012_mean.npy, which is what classify.py subtracts."""


class ForeignError(UserError):
    """A file that is not what it was called; the text names file, tensor and what was expected."""


OTHER = "import the file of the AlexNet that torchvision or Caffe distributes"
SAVE = "save it with torch.save(model.state_dict(), FILE)"


class Imported(NamedTuple):
    network: AlexNetConfig
    tensors: dict[str, Tensor]
    """State of an AlexNet of that network, float32."""
    mean_3HW: Tensor
    """float32, crop x crop, 0..255."""
    rule: ImageRule


def publish_import(
    file: Path, family: Family, name: str, classes: Path | None, mean: Path | None, models: Path
) -> Path:
    """Write models/NAME/00000000 and point NAME at it; returns that directory.

    `mean` as `read_mean` takes it, for Caffe only; `classes` as `read_classes` does. Raises
    ForeignError, also where `name` is taken.
    """
    if (models / name).exists():
        raise ForeignError(
            f"{models / name}: this model exists already; choose another --name, or remove it"
        )
    if family == "torchvision":
        if mean is not None:
            raise ForeignError(
                f"--mean is {mean}, but torchvision's mean is known; leave out --mean"
            )
        imported = from_torchvision(_read_state(file), file)
    else:
        imported = from_caffe(
            {key: torch.from_numpy(array) for key, array in _arrays(file).items()},
            read_mean(mean),
            file,
        )
    with torch.device("meta"):
        model = AlexNet(imported.network)
    model.load_state_dict(imported.tensors, assign=True)
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    about = About(
        name=name,
        step=0,
        network=imported.network,
        classes=read_classes(classes, imported.network.classes),
        size=SIZE,
        rule=imported.rule,
        dataset=None,
        recipe={"imported": family, "file": file.name, "sha256": digest},
        trained_at=None,
        versions={"torch": version("torch")},
    )
    return checkpoint.save(model, imported.mean_3HW, about, models)


def from_torchvision(tensors: dict[str, Tensor], file: Path) -> Imported:
    """The state dict of torchvision.models.alexnet, with any number of classes.

    Its dropout comes before fc6 and fc7; where it is trained further here, after fc6 and fc7, as
    in 2012. `file` is for the text of ForeignError.
    """
    network = AlexNetConfig(
        towers=1, kernels=(64, 192, 384, 256, 256), conv1_padding=2, local_response_norm=False
    )
    network, state = _renamed(tensors, TORCHVISION, network, file)
    scale_3 = 255 * torch.tensor(TORCHVISION_DEVIATION, dtype=torch.float64)
    state["conv1.weight"] = (state["conv1.weight"] / scale_3[:, None, None]).float()
    mean_3HW = 255 * torch.tensor(TORCHVISION_MEAN)[:, None, None].repeat(
        1, network.crop, network.crop
    )
    return Imported(network, state, mean_3HW, ImageRule(framing="pixel-crop", filter="bilinear"))


def from_caffe(tensors: dict[str, Tensor], mean_SS3: np.ndarray, file: Path) -> Imported:
    """The blobs of models/bvlc_alexnet, {LAYER.0: weights, LAYER.1: bias}; mean as of `read_mean`.

    As pycaffe writes them:

        np.savez(FILE, **{f"{n}.{i}": b.data for n, bs in net.params.items()
                          for i, b in enumerate(bs)})

    Its images are squashed, as examples/imagenet/readme.md asks. `file` is for the text of
    ForeignError.
    """
    network = AlexNetConfig(crop=227, norm_k=1, norm_across_towers=True)
    network, state = _renamed(tensors, CAFFE, network, file)
    state["conv1.weight"] = state["conv1.weight"].flip(1)  # BGR
    mean_3HW = centre_mean(mean_SS3, network.crop)
    return Imported(network, state, mean_3HW, ImageRule(framing="squash", filter="bilinear"))


def _renamed(
    tensors: dict[str, Tensor], names: dict[str, str], network: AlexNetConfig, file: Path
) -> tuple[AlexNetConfig, dict[str, Tensor]]:
    """The network with the file's number of classes, and its state but for conv1's input."""
    for theirs in names.values():
        if theirs not in tensors:
            found = ", ".join(list(tensors)[:3]) or "nothing"
            raise ForeignError(f"{file}: there is no tensor {theirs} (found: {found}, …); {OTHER}")
    if extra := sorted(tensors.keys() - names.values()):
        raise ForeignError(
            f"{file}: the tensor {extra[0]} belongs to no layer of this network; {OTHER}"
        )
    classes = tensors[names["fc8.bias"]].numel()
    if classes < 2:
        raise ForeignError(
            f"{file}: {names['fc8.bias']} should have 2 classes or more, but has {classes}"
        )
    network = network.model_copy(update={"classes": classes})
    with torch.device("meta"):
        expected = AlexNet(network).state_dict()
    state = {}
    for ours, theirs in names.items():
        shape, found_shape = tuple(expected[ours].shape), tuple(tensors[theirs].shape)
        if found_shape != shape:
            raise ForeignError(
                f"{file}: {theirs} should have the shape {shape}, but has {found_shape}; {OTHER}"
            )
        state[ours] = tensors[theirs].float()
    for layer in ("fc7", "fc8"):
        state[f"{layer}.weight"] = state[f"{layer}.weight"] / (1 - network.dropout)
    return network, state


def read_mean(path: Path | None) -> np.ndarray:
    """(256, 256, 3) float32, RGB, from an .npy file, or the array `mean` of an .npz file.

    It holds Caffe's mean image, (3, 256, 256) in BGR as ilsvrc_2012_mean.npy, or three values.
    """
    mean = np.array(CAFFE_MEAN)
    if path is not None:
        arrays = _arrays(path)
        if "mean" not in arrays:
            raise ForeignError(
                f"{path}: there is no array `mean` (found: {', '.join(arrays) or 'none'}); save one"
            )
        mean = arrays["mean"]
    if mean.shape not in ((3,), (3, SIZE, SIZE)):
        raise ForeignError(
            f"{path}: the shape should be (3,) or (3, {SIZE}, {SIZE}), but is {mean.shape}"
        )
    image_3SS = np.broadcast_to(mean.reshape(3, *mean.shape[1:] or (1, 1)), (3, SIZE, SIZE))
    return np.ascontiguousarray(image_3SS[::-1].transpose(1, 2, 0), np.float32)


def read_classes(path: Path | None, count: int) -> tuple[ClassLabel, ...]:
    """One line a class, in the order of the outputs: `n01440764 tench, Tinca tinca` as in
    synset_words.txt, or a name alone. Without a file, or an ID, a class is `class 0000`. Raises
    UserError."""
    ids = [f"class {number:04d}" for number in range(count)]
    if path is None:
        return tuple(ClassLabel(id=i, name=i) for i in ids)
    lines = [line.strip() for line in read_names(path, "one name a line") if line.strip()]
    if len(lines) != count:
        raise ForeignError(
            f"{path}: {len(lines)} names for {count} classes; write one on each line"
        )
    synsets = [re.fullmatch(r"(n\d{8})\s+(.+)", line) for line in lines]
    if all(synsets):
        return tuple(ClassLabel(id=m[1], name=m[2]) for m in synsets if m)
    return tuple(ClassLabel(id=i, name=line) for i, line in zip(ids, lines, strict=True))


def _read_state(path: Path) -> dict[str, Tensor]:
    """A state dict, of torch.save or as .safetensors."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except SafetensorError as error:
        raise ForeignError(f"{path}: this is not a safetensors file ({error})") from None
    except Exception as error:  # a cut archive, or other classes than tensors: almost anything
        raise ForeignError(
            f"{path}: cannot be read as a state dict ({type(error).__name__}); {SAVE}"
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(t, Tensor) for t in loaded.values()):
        found = ", ".join(map(str, loaded)) if isinstance(loaded, dict) else type(loaded).__name__
        raise ForeignError(f"{path}: expected a dictionary of tensors, found {found:.80}; {SAVE}")
    return loaded


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by their names; the one of an .npy file as `mean`."""
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            arrays = {"mean": loaded}
        else:
            with loaded:
                arrays = dict(loaded)
    except OSError:
        raise
    except Exception as error:  # as above
        raise ForeignError(
            f"{path}: this is not an .npy or .npz file of plain arrays; {OTHER}"
        ) from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise ForeignError(f"{path}: {name} should hold numbers, but holds {array.dtype}")
    return arrays
