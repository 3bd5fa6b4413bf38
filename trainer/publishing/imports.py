"""Well-known networks from elsewhere -> a published model: torchvision's, and Caffe's two.

Whatever is the same arithmetic goes into the weights: the scale of the pixels and the order of
their colours into conv1's, and as both scale up in training what dropout leaves, where 2012 scales
down at test, twice the weights of fc7 and fc8 undo that: exactly, and in further training as well.
What is other arithmetic is an option of the network, or the rule that makes the image.
"""

import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from alexnet.checkpoint import About
from alexnet.classes import ClassLabel, class_label
from alexnet.model import AlexNet, AlexNetConfig
from alexnet.pixels import SIZE, ImageRule
from alexnet.store.models import is_published, save
from alexnet.store.url import Place
from alexnet.text import read_names
from alexnet.views import centre_mean
from trainer.arguments import Family
from trainer.publishing import state_dict, weight_files
from trainer.publishing.caffemodel import Caffemodel
from trainer.publishing.weight_files import ForeignError

PARTS = ("weight", "bias")
LAYERS = {
    "conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8",
    "conv5": "features.10", "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6",
}  # fmt: skip
"""{our and Caffe's layer: torchvision's}, from torchvision/models/alexnet.py."""
TORCHVISION = {f"{our}.{part}": f"{t}.{part}" for our, t in LAYERS.items() for part in PARTS}
CAFFE = {f"{our}.{part}": f"{our}.{n}" for our in LAYERS for n, part in enumerate(PARTS)}
"""{our tensor: theirs}, all of them."""
CAFFE_IN_TORCH = {name: name for name in CAFFE}
"""The same, of a state dict that was converted from Caffe."""

TORCHVISION_MEAN, TORCHVISION_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""RGB on the scale 0..1: `AlexNet_Weights.IMAGENET1K_V1.transforms()`."""

CAFFE_MEAN = (104.0069879317889, 116.66876761696767, 122.6789143406786)
"""BGR: the channels' means of Caffe's ilsvrc_2012_mean.npy, which is what classify.py subtracts."""


_KEPT = 1 - AlexNetConfig().dropout
FOLDED: dict[str, dict[str, tuple[float, ...]]] = {
    "torchvision": {
        "conv1": tuple(1 / (255 * deviation) for deviation in TORCHVISION_DEVIATION),
        "fc7": (1 / _KEPT,),
    },
    "caffe": {"fc7": (1 / _KEPT,)},
    "caffenet": {"fc7": (1 / _KEPT,)},
}
"""{family: {layer: what its weights are multiplied by here}}, as of a recipe, for the layers that a
run takes over: fc8, of which the same is true as of fc7, is new in every run."""

FIRST = {"caffe": "norm", "caffenet": "pool"}
"""What comes first after conv1 and conv2: models/bvlc_alexnet and models/bvlc_reference_caffenet
of Caffe have the same tensors, and differ in that alone."""

OWN_CHECKPOINT = {"stand", "weights", "velocity"}
"""Keys of trainer.loop.state.FILE."""

EXPECTED = "expected is the AlexNet that torchvision or Caffe distributes"


class Imported(NamedTuple):
    network: AlexNetConfig
    tensors: dict[str, Tensor]
    """State of an AlexNet of that network, float32."""
    mean_3HW: Tensor
    """float32, crop x crop, 0..255."""
    whole_mean_3SS: Tensor | None
    """float32, 256 x 256, 0..255, where the mean of a view depends on its place."""
    rule: ImageRule


def publish_import(
    file: Path, family: Family, name: str, classes: Path | None, mean: Path | None, models: Place
) -> Place:
    """Write models/NAME/00000000 and point NAME at it; returns that folder or URL.

    `mean` as `read_mean` takes it, for Caffe only; `classes` as `read_classes` does. Raises
    ForeignError, also where `name` is taken.
    """
    if is_published(models / name):
        raise ForeignError(
            f"{models / name}: this model exists already; choose another --name, or remove it"
        )
    content = weight_files.read(file)
    if family == "torchvision":
        if mean is not None:
            raise ForeignError(
                f"--mean is {mean}, but torchvision's mean is known; leave out --mean"
            )
        imported = from_torchvision(content, file)
    else:
        imported = from_caffe(content, read_mean(mean), file, family)
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
    return save(model, imported.mean_3HW, about, models, imported.whole_mean_3SS)


def from_torchvision(content: Any, file: Path) -> Imported:
    """The state dict of torchvision.models.alexnet, with any number of classes, wherever it lies in
    `content`, as `weight_files.read` gives it.

    Its dropout comes before fc6 and fc7; where it is trained further here, after fc6 and fc7, as
    in 2012. `file` is for the text of ForeignError.
    """
    network = AlexNetConfig(
        towers=1, kernels=(64, 192, 384, 256, 256), conv1_padding=2, local_response_norm=False
    )
    network, state = _renamed(_own(content, (TORCHVISION,), file), network, file)
    scale_3 = 255 * torch.tensor(TORCHVISION_DEVIATION, dtype=torch.float64)
    state["conv1.weight"] = (state["conv1.weight"] / scale_3[:, None, None]).float()
    mean_3HW = 255 * torch.tensor(TORCHVISION_MEAN)[:, None, None].repeat(
        1, network.crop, network.crop
    )
    rule = ImageRule(framing="pixel-crop", filter="bilinear")
    return Imported(network, state, mean_3HW, None, rule)


def from_caffe(content: Any, mean_SS3: np.ndarray, file: Path, family: Family) -> Imported:
    """The blobs of models/bvlc_alexnet ("caffe") or models/bvlc_reference_caffenet ("caffenet"): a
    `Caffemodel`, or {LAYER.0: weights, LAYER.1: bias}; mean as of `read_mean`.

    As pycaffe writes them:

        np.savez(FILE, **{f"{n}.{i}": b.data for n, bs in net.params.items()
                          for i, b in enumerate(bs)})

    Its images are squashed, as examples/imagenet/readme.md asks. `file` is for the text of
    ForeignError.
    """
    first = content.first if isinstance(content, Caffemodel) else None
    if first not in (None, FIRST[family]):
        other = next(name for name in FIRST if name != family)
        does = "normalises before it pools" if first == "norm" else "pools before it normalises"
        raise ForeignError(f"{file}: this network {does}; give --from {other}")
    network = AlexNetConfig(
        crop=227, norm_k=1, norm_across_towers=True, norm_after_pool=FIRST[family] == "pool"
    )
    if isinstance(content, Caffemodel):
        content = content.tensors
    network, state = _renamed(_own(content, (CAFFE, CAFFE_IN_TORCH), file), network, file)
    if first is None and family == "caffe":
        _note(
            file,
            "warning: taken for AlexNet, since CaffeNet's tensors have the same names and shapes; "
            "if it is CaffeNet, import it with --from caffenet",
        )
    state["conv1.weight"] = state["conv1.weight"].flip(1)  # BGR
    mean_3SS = torch.from_numpy(mean_SS3).permute(2, 0, 1)
    flat = bool((mean_3SS == mean_3SS[:, :1, :1]).all())
    return Imported(
        network,
        state,
        centre_mean(mean_SS3, network.crop),
        None if flat else mean_3SS.contiguous(),
        ImageRule(framing="squash", filter="bilinear"),
    )


def _note(file: Path, text: str) -> None:
    print(f"{file}: {text}", file=sys.stderr, flush=True)


def _own(content: Any, namings: Sequence[Mapping[str, str]], file: Path) -> dict[str, Tensor]:
    """The network's tensors by our names, wherever in `content` they are, by one of the `namings`,
    {ours: theirs}; what was unwrapped, renamed or left out is said. Raises ForeignError."""
    if isinstance(content, dict) and content.keys() >= OWN_CHECKPOINT:
        raise ForeignError(
            f"{file}: this is a checkpoint of a run of this program; publish it with "
            "`alexnet publish NAME`"
        )
    found = [state_dict.find(content, names.values()) for names in namings]
    names, (tensors, note) = max(
        zip(namings, found, strict=True),
        key=lambda pair: len(pair[1].tensors.keys() & pair[0].values()),
    )
    missing = [theirs for theirs in names.values() if theirs not in tensors]
    extra = sorted(tensors.keys() - names.values())
    if renamed := _classifier(missing, extra):
        tensors = tensors | {theirs: tensors[other] for other, theirs in renamed.items()}
        said = f"its classifier is called {extra[0].rpartition('.')[0]}"
        note = f"{note}; {said}" if note else said
    elif missing or extra:
        raise _other_network(content, tensors, missing, extra, file)
    if note:
        _note(file, note)
    return {ours: tensors[theirs] for ours, theirs in names.items()}


def _classifier(missing: Sequence[str], extra: Sequence[str]) -> dict[str, str]:
    """{its name: ours} of a last layer that was replaced, where nothing else differs."""
    last = {name.rpartition(".")[0] for name in missing}
    stems = {name.rpartition(".")[0] for name in extra}
    if not len(missing) == len(extra) == 2 or not last <= {"fc8", LAYERS["fc8"]}:
        return {}
    return dict(zip(extra, sorted(missing), strict=True)) if len(stems) == 1 else {}


def _other_network(
    content: Any, tensors: dict[str, Tensor], missing: list[str], extra: list[str], file: Path
) -> ForeignError:
    """Why tensors are not those that were expected."""
    if list(tensors) == ["mean"]:
        return ForeignError(f"{file}: this is a single array, such as a mean image, not weights")
    if "mean_3HW" in tensors:
        return ForeignError(
            f"{file}: this is a file of a model that is published already; give its folder to "
            "`alexnet serve`"
        )
    for family, names in (
        ("caffe", CAFFE),
        ("caffe", CAFFE_IN_TORCH),
        ("torchvision", TORCHVISION),
    ):
        if missing and not names.values() - state_dict.find(content, names.values()).tensors.keys():
            return ForeignError(
                f"{file}: these are the tensors of another AlexNet; give --from {family}"
            )
    if what := state_dict.looks_like(tensors):
        return ForeignError(f"{file}: this looks like {what}; {EXPECTED}")
    if missing:
        shown = ", ".join(list(tensors)[:3]) or "nothing"
        return ForeignError(
            f"{file}: there is no tensor {missing[0]} (found: {shown}, …); {EXPECTED}"
        )
    return ForeignError(
        f"{file}: the tensor {extra[0]} belongs to no layer of this network; {EXPECTED}"
    )


def _renamed(
    tensors: dict[str, Tensor], network: AlexNetConfig, file: Path
) -> tuple[AlexNetConfig, dict[str, Tensor]]:
    """The network with the file's number of classes, and its state but for conv1's input."""
    classes = tensors["fc8.bias"].numel()
    if classes < 2:
        raise ForeignError(
            f"{file}: the last layer should have 2 classes or more, but has {classes}"
        )
    network = network.model_copy(update={"classes": classes})
    with torch.device("meta"):
        expected = AlexNet(network).state_dict()
    for name, tensor in tensors.items():
        shape, found = tuple(expected[name].shape), tuple(tensor.shape)
        if found != (1,) * (len(found) - len(shape)) + shape:  # Caffe's first blobs had four sides
            raise ForeignError(
                f"{file}: the layer {name} should have the shape {shape}, but has {found}; "
                f"{EXPECTED}"
            )
        if not tensor.is_floating_point():
            raise ForeignError(
                f"{file}: the layer {name} should hold floating-point numbers, but holds "
                f"{tensor.dtype}; {EXPECTED}"
            )
    for name, tensor in tensors.items():
        if tensor.is_meta or tensor.layout != torch.strided:
            kind = "without its numbers" if tensor.is_meta else "a sparse tensor"
            raise ForeignError(f"{file}: the layer {name} is {kind}; save it as a dense tensor")
    state = {
        name: tensor.detach().reshape(expected[name].shape).float()
        for name, tensor in tensors.items()
    }
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise ForeignError(
                f"{file}: the layer {name} holds infinite numbers, or NaN: its training diverged; "
                "give an earlier checkpoint"
            )
    for layer in ("fc7", "fc8"):
        state[f"{layer}.weight"] = state[f"{layer}.weight"] / (1 - network.dropout)
    return network, state


def read_mean(path: Path | None) -> np.ndarray:
    """(256, 256, 3) float32, RGB, from an .npy file, the array `mean` of an .npz file, or a
    .binaryproto of Caffe.

    It holds Caffe's mean image, (3, 256, 256) in BGR as ilsvrc_2012_mean.npy, or three values.
    """
    mean = np.array(CAFFE_MEAN)
    if path is not None:
        content = weight_files.read(path)
        if not isinstance(content, dict) or not isinstance(content.get("mean"), Tensor):
            found = ", ".join(content) if isinstance(content, dict) else "weights of Caffe"
            raise ForeignError(
                f"{path}: there is no array `mean` (found: {found or 'none'}); save one"
            )
        mean = content["mean"].numpy()
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
        return tuple(class_label(i, i) for i in ids)
    lines = [line.strip() for line in read_names(path, "one name a line") if line.strip()]
    if len(lines) != count:
        raise ForeignError(
            f"{path}: {len(lines)} names for {count} classes; write one on each line"
        )
    synsets = [re.fullmatch(r"(n\d{8})\s+(.+)", line) for line in lines]
    if all(synsets):
        return tuple(class_label(m[1], m[2]) for m in synsets if m)
    return tuple(class_label(i, line) for i, line in zip(ids, lines, strict=True))
