"""Where in what a file holds the tensors of a network are, and by which names.

People save them under a key (`state_dict` of Lightning and timm, `model`, `ema`), and as parts of
other modules (`module.` of DataParallel, `_orig_mod.` of torch.compile, `model.`, `backbone.`).
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor

WRAPPERS = ("module", "_module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Names that a wrapper gives to the module it wraps, anywhere in a tensor's name."""
AVERAGES = ("ema", "swa", "averag", "shadow")
"""Parts of the names of weights that were averaged while others were trained."""
DEPTH = 4
"""Dictionaries within dictionaries that are looked into."""

LOOKS = (
    (r"layer[1-4]\.\d+\.(conv|bn)\d", "a ResNet"),
    (r"denseblock\d", "a DenseNet"),
    (r"(features\.\d+|fire\d+)[./](squeeze|expand)", "a SqueezeNet"),
    (r"Mixed_\d|inception|branch\dx", "an Inception network"),
    (r"patch_embed|cls_token|class_token|\battn\.|encoder\.layers?\.", "a transformer"),
    (r"stages\.\d|features\.\d+\.\d+\.(block|layer_scale)", "a ConvNeXt or an EfficientNet"),
    (r"_blocks\.\d|conv_stem|features\.\d+\.(conv|block)\.", "a MobileNet or an EfficientNet"),
    (r"features\.(1[1-9]|[2-5]\d)\.|conv[1-5]_[1-4]\b", "a VGG"),
    (r"running_mean|num_batches_tracked", "a network with batch normalisation"),
)  # fmt: skip
"""(pattern of a tensor's name, the network that has such)."""


class Found(NamedTuple):
    tensors: dict[str, Tensor]
    """By the network's own names."""
    note: str | None
    """What was unwrapped, stripped and left out, for people."""


class _Place(NamedTuple):
    keys: tuple[str, ...]
    """Of the dictionaries, from the outside in."""
    prefix: str
    """Of the tensors' names, with the dot at its end."""
    tensors: dict[str, Tensor]
    """Those with that prefix, without it."""
    wrappers: tuple[str, ...]
    """What was taken off their names besides."""
    beside: tuple[str, ...]
    """The tensors of the same dictionary without that prefix."""

    @property
    def name(self) -> str:
        parts = [f"the names in {self.prefix}*"] if self.prefix else []
        return " of ".join([*parts, *map(repr, self.keys[::-1])])

    @property
    def averaged(self) -> bool:
        return any(word in self.name.lower() for word in AVERAGES)


def find(content: Any, names: Collection[str]) -> Found:
    """The dictionary in `content` that has the tensors `names`, or the most of them.

    Where several have as many, the first that is no average. Where none has half of them, what the
    largest dictionary holds is returned as it is.
    """
    places = [
        place for keys, tensors in _dictionaries(content) for place in _places(keys, tensors, names)
    ]
    counted = [(len(place.tensors.keys() & names), place) for place in places]
    most = max((count for count, _ in counted), default=0)
    if 2 * most < len(names):
        every = sorted((t for _, t in _dictionaries(content)), key=len)
        return Found(every[-1] if every else {}, None)
    best = sorted((p for count, p in counted if count == most), key=lambda p: p.averaged)
    chosen, others = best[0], best[1:]
    return Found(chosen.tensors, _note(content, chosen, others))


def looks_like(names: Collection[str]) -> str | None:
    """The well-known network whose tensors have such names; None where there is none."""
    return next(
        (what for pattern, what in LOOKS if any(re.search(pattern, n) for n in names)), None
    )


def _note(content: Any, chosen: _Place, others: list[_Place]) -> str | None:
    """One line; nothing of a state dict that is alone in its file, by the network's own names."""
    outer = list(content.items()) if isinstance(content, Mapping) else []
    if chosen.keys:
        left = [str(key) for key, _ in outer if str(key) != chosen.keys[0]]
    else:
        left = [str(key) for key, value in outer if not isinstance(value, Tensor)]
    left += [place.name for place in others if place.name.strip("'") not in left]
    if chosen.beside:
        left.append(f"the tensors beside them, such as {chosen.beside[0]}")
    said = (
        ("taken: ", chosen.name),
        ("without the wrapper ", ", ".join(chosen.wrappers)),
        ("left out: ", ", ".join(left)),
    )
    return "; ".join(verb + what for verb, what in said if what) or None


def _dictionaries(
    content: Any, keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    """Every dictionary with tensors in it, by the keys that lead to it, with those alone."""
    if not isinstance(content, Mapping) or len(keys) > DEPTH:
        return
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        yield keys, tensors
    for key, value in content.items():
        yield from _dictionaries(value, (*keys, str(key)))


def _places(
    keys: tuple[str, ...], tensors: dict[str, Tensor], names: Collection[str]
) -> Iterator[_Place]:
    """The prefixes under which a dictionary has any of `names`, wrappers taken off."""
    parts = [name.split(".") for name in tensors]
    wrappers = tuple(w for w in WRAPPERS if any(w in part for part in parts))
    plain = {
        ".".join(p for p in part if p not in WRAPPERS): tensor
        for part, tensor in zip(parts, tensors.values(), strict=True)
    }
    prefixes = {
        name.removesuffix(wanted): None
        for name in plain
        for wanted in names
        if name == wanted or name.endswith(f".{wanted}")
    }
    for prefix in prefixes:
        own = {n.removeprefix(prefix): t for n, t in plain.items() if n.startswith(prefix)}
        beside = tuple(n for n in plain if not n.startswith(prefix))
        yield _Place(keys, prefix, own, wrappers, beside)
