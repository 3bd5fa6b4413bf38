"""Caffe's binary files, written byte by byte as protocol buffers are."""

from collections.abc import Sequence

import numpy as np

ARRAY = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
NORM_FIRST = ("conv1", "relu1", "norm1", "pool1")
POOL_FIRST = ("conv1", "relu1", "pool1", "norm1")
TYPES = {
    "v0": {"conv": b"conv", "relu": b"relu", "norm": b"lrn", "pool": b"pool"},
    "v1": {"conv": 4, "relu": 18, "norm": 15, "pool": 17},
    "v2": {"conv": b"Convolution", "relu": b"ReLU", "norm": b"LRN", "pool": b"Pooling"},
}
"""src/caffe/proto/caffe.proto: `V0LayerParameter.type`, `V1LayerParameter.LayerType`, and the names
of layer_factory."""


def varint(number: int) -> bytes:
    low, high = number & 127, number >> 7
    return bytes([low | 128]) + varint(high) if high else bytes([low])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(array: np.ndarray, sides: str = "shape") -> bytes:
    if sides == "shape":
        shape = field(7, field(1, b"".join(map(varint, array.shape))))
    else:  # four numbers, as in the files of 2013 and 2014
        four = (1,) * (4 - array.ndim) + array.shape
        shape = b"".join(field(n, side) for n, side in enumerate(four, 1))
    return shape + field(5, array.astype("<f4").tobytes())


def caffemodel(
    layers: Sequence[str], blobs: dict[str, Sequence[np.ndarray]], generation: str = "v1"
) -> bytes:
    """A .caffemodel of these layers, whose names begin with their kind."""
    written = [field(1, b"CaffeNet or AlexNet")]
    for name in layers:
        kind = TYPES[generation].get(name[:4], TYPES[generation]["conv"])
        sides = "shape" if generation == "v2" else "four"
        parts = [blob(array, sides) for array in blobs.get(name, ())]
        called = name.encode()
        if generation == "v0":
            inner = field(1, called) + field(2, kind) + b"".join(field(50, p) for p in parts)
            written.append(field(2, field(2, b"data") + field(1, inner)))
        elif generation == "v1":
            inner = b"".join(field(6, part) for part in parts)
            written.append(field(2, field(2, b"data") + field(4, called) + field(5, kind) + inner))
        else:
            inner = b"".join(field(7, part) for part in parts)
            written.append(field(100, field(1, called) + field(2, kind) + inner))
    return b"".join(written)
