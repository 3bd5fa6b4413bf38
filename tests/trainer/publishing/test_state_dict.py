"""Where people put a state dict, and what they call its tensors."""

from typing import Any

import pytest
import torch
from torch import nn

from trainer.publishing.state_dict import find, looks_like

NAMES = [f"{layer}.{part}" for layer in ("features.0", "features.3", "classifier.1")
         for part in ("weight", "bias")]  # fmt: skip
STATE = {name: torch.full((2,), float(number)) for number, name in enumerate(NAMES)}
OTHER = {name: tensor + 10 for name, tensor in STATE.items()}


def prefixed(prefix: str, state: dict[str, torch.Tensor] = STATE) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


def assert_found(content: Any, note: str | None) -> None:
    found = find(content, NAMES)
    assert found.note == note
    assert {name: found.tensors[name].tolist() for name in NAMES} == {
        name: tensor.tolist() for name, tensor in STATE.items()
    }


def test_a_state_dict_alone_needs_no_word() -> None:
    assert_found(STATE, None)


@pytest.mark.parametrize(
    "key",
    ["state_dict", "model", "model_state_dict", "net", "network", "weights", "params", "ema", "x"],
)
def test_it_is_found_under_any_key(key: str) -> None:
    optimizer = {"state": {0: {"momentum_buffer": torch.zeros(2)}}, "param_groups": [{"lr": 1}]}
    assert_found({key: STATE}, f"taken: {key!r}")
    assert_found(
        {"epoch": 3, key: STATE, "optimizer": optimizer},
        f"taken: {key!r}; left out: epoch, optimizer",
    )
    assert_found({"run": {key: STATE}}, f"taken: {key!r} of 'run'")


@pytest.mark.parametrize(
    ("prefix", "note"),
    [
        ("module.", "without the wrapper module"),
        ("_orig_mod.", "without the wrapper _orig_mod"),
        ("module._orig_mod.", "without the wrapper module, _orig_mod"),
        ("model.", "taken: the names in model.*"),
        ("backbone.", "taken: the names in backbone.*"),
        ("net.", "taken: the names in net.*"),
        ("module.model.net.", "taken: the names in model.net.*; without the wrapper module"),
    ],
)
def test_prefixes_are_taken_off(prefix: str, note: str) -> None:
    assert_found(prefixed(prefix), note)
    assert_found({"state_dict": prefixed(prefix)}, note.replace("*", "* of 'state_dict'", 1)
                 if "*" in note else f"taken: 'state_dict'; {note}")  # fmt: skip


def test_parts_that_were_parallel() -> None:
    """As torchvision's first AlexNet, and those of PyTorch's ImageNet example, were saved."""
    state = {name.replace("features.", "features.module."): t for name, t in STATE.items()}
    assert_found(state, "without the wrapper module")


def test_entries_among_the_tensors_are_left_out() -> None:
    assert_found({**STATE, "epoch": 3, "optimizer": {}}, "left out: epoch, optimizer")


def test_tensors_of_another_module_are_left_out() -> None:
    state = {**prefixed("model."), "criterion.weight": torch.ones(3)}
    left = "left out: the tensors beside them, such as criterion.weight"
    assert_found(state, f"taken: the names in model.*; {left}")


@pytest.mark.parametrize("average", ["ema", "state_dict_ema", "model_ema", "swa_model"])
def test_an_average_is_taken_only_where_nothing_else_is(average: str) -> None:
    assert_found({average: OTHER, "model": STATE}, f"taken: 'model'; left out: {average}")
    assert_found({average: STATE}, f"taken: {average!r}")


def test_of_two_networks_the_first_is_taken_and_the_other_named() -> None:
    found = find({**prefixed("student."), **prefixed("teacher.", OTHER)}, NAMES)
    assert found.note is not None
    assert "taken: the names in student.*; left out: the names in teacher.*" in found.note


@pytest.mark.parametrize("content", [{}, [], None, 3, {"epoch": 3}, {"model": [STATE]}], ids=str)
def test_where_there_is_none(content: Any) -> None:
    assert find(content, NAMES) == ({}, None)


def test_the_largest_is_shown_where_none_fits() -> None:
    tensors, note = find(
        {"a": {"x": torch.zeros(1)}, "b": dict.fromkeys("yz", torch.ones(1))}, NAMES
    )
    assert (list(tensors), note) == (["y", "z"], None)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (["conv1.weight", "layer1.0.conv1.weight", "layer1.0.bn1.running_mean"], "a ResNet"),
        (["features.28.weight", "classifier.0.weight"], "a VGG"),
        (["conv1_1.0", "fc6.0"], "a VGG"),
        (["features.denseblock1.denselayer1.norm1.weight"], "a DenseNet"),
        (["features.3.squeeze.weight"], "a SqueezeNet"),
        (["Mixed_5b.branch1x1.conv.weight"], "an Inception network"),
        (["encoder.layers.encoder_layer_0.ln_1.weight"], "a transformer"),
        (["blocks.0.attn.qkv.weight"], "a transformer"),
        (["features.1.0.block.0.weight"], "a ConvNeXt or an EfficientNet"),
        (["features.1.conv.0.0.weight"], "a MobileNet or an EfficientNet"),
        (["features.1.running_mean"], "a network with batch normalisation"),
        (["features.0.weight", "classifier.6.weight"], None),
    ],
)
def test_well_known_networks_are_known_by_their_names(names: list[str], what: str | None) -> None:
    assert looks_like(names) == what


def test_a_real_wrapper() -> None:
    """torch's own, which needs no process group."""
    network = nn.Sequential()
    for name in ("features", "classifier"):
        network.add_module(name, nn.Sequential(*(nn.Linear(1, 2) for _ in range(4))))
    state = nn.DataParallel(network).state_dict()
    assert find(state, network.state_dict().keys()).tensors.keys() == network.state_dict().keys()
