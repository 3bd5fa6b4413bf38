"""Caffe's binary files are read as they were written."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tests.trainer.publishing.caffe_files import (
    ARRAY,
    NORM_FIRST,
    POOL_FIRST,
    TYPES,
    blob,
    caffemodel,
    field,
    varint,
)
from trainer.publishing.caffemodel import NotCaffeError, mean_image, parse


@pytest.mark.parametrize("generation", TYPES)
@pytest.mark.parametrize(("layers", "first"), [(NORM_FIRST, "norm"), (POOL_FIRST, "pool")])
def test_tensors_and_order_of_each_generation(
    generation: str, layers: Sequence[str], first: str
) -> None:
    bias = np.float32([1, 2])
    found = parse(caffemodel(layers, {"conv1": (ARRAY, bias)}, generation))
    assert found.first == first
    assert list(found.tensors) == ["conv1.0", "conv1.1"]
    assert torch.equal(found.tensors["conv1.0"], torch.from_numpy(ARRAY))
    assert found.tensors["conv1.1"].flatten().tolist() == [1, 2]


def test_without_a_norm_the_order_is_not_known() -> None:
    assert parse(caffemodel(("conv1", "pool1"), {"conv1": (ARRAY,)})).first is None


def test_a_mean_image() -> None:
    assert np.array_equal(mean_image(blob(ARRAY[:1], "four")), ARRAY[0])


@pytest.mark.parametrize(
    "data",
    [
        caffemodel(NORM_FIRST, {}),
        caffemodel(NORM_FIRST, {"conv1": (ARRAY,)})[:60],
        field(2, field(6, field(7, field(1, varint(9))) + field(5, b"1234"))),
        b"\xff" * 40,
        b"",
    ],
    ids=["no weights", "cut", "another size", "noise", "empty"],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(NotCaffeError):
        parse(data)
    with pytest.raises(NotCaffeError):
        mean_image(data)
