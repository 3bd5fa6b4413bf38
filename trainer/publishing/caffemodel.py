"""Caffe's binary files: the weights of a network, and its mean image.

They are protocol buffers of src/caffe/proto/caffe.proto, of which the fields that are needed are
declared here; numbers are declared as bytes, which is how they lie in the file.
"""

from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from torch import Tensor

Label, Type = descriptor_pb2.FieldDescriptorProto.Label, descriptor_pb2.FieldDescriptorProto.Type
NAME, TYPE = ("name", 1, "string", False), ("type", 2, "string", False)
FIELDS: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "Shape": (("dim", 1, "int64", True),),
    "Blob": (
        ("num", 1, "int64", False), ("channels", 2, "int64", False),
        ("height", 3, "int64", False), ("width", 4, "int64", False),
        ("data", 5, "bytes", False), ("shape", 7, "Shape", False),
    ),
    "V0Layer": (NAME, TYPE, ("blobs", 50, "Blob", True)),
    "V1Layer": (
        ("layer", 1, "V0Layer", False), ("name", 4, "string", False), ("type", 5, "int64", False),
        ("blobs", 6, "Blob", True),
    ),
    "Layer": (NAME, TYPE, ("blobs", 7, "Blob", True)),
    "Net": (("layers", 2, "V1Layer", True), ("layer", 100, "Layer", True)),
}  # fmt: skip
"""{message: (field, number, type, whether repeated)}; a network has layers of one generation."""

NORM, POOL = {"lrn", "15"}, {"pooling", "pool", "17"}
"""Types of layers, as the three generations of the format call them."""


class NotCaffeError(ValueError):
    """Bytes that are no such file."""


class Caffemodel(NamedTuple):
    tensors: dict[str, Tensor]
    """{LAYER.0: weights, LAYER.1: bias}, float32."""
    first: Literal["norm", "pool"] | None
    """What comes first after a convolution, as AlexNet or as CaffeNet has it; None where the file
    does not say."""


def parse(data: bytes) -> Caffemodel:
    """A network's weights (.caffemodel). Raises NotCaffeError."""
    net = _parsed("Net", data)
    layers = [*net.layer, *(v1.layer if v1.HasField("layer") else v1 for v1 in net.layers)]
    tensors = {
        f"{layer.name}.{number}": torch.from_numpy(_array(blob))
        for layer in layers
        for number, blob in enumerate(layer.blobs)
    }
    if not tensors:
        raise NotCaffeError
    types = [str(layer.type).lower() for layer in layers]
    first = next((t for t in types if t in NORM | POOL), None)
    if first is None or not NORM & set(types):
        return Caffemodel(tensors, None)
    return Caffemodel(tensors, "norm" if first in NORM else "pool")


def mean_image(data: bytes) -> np.ndarray:
    """(3, rows, columns) float32, BGR, of a .binaryproto. Raises NotCaffeError."""
    array = _array(_parsed("Blob", data))
    if array.ndim != 4 or len(array) != 1:
        raise NotCaffeError
    return array[0]


def _array(blob: Any) -> np.ndarray:
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else _four(blob)
    values = np.frombuffer(blob.data, "<f4")
    if values.size != np.prod(shape, dtype=np.int64):
        raise NotCaffeError
    return values.reshape(shape).copy()


def _four(blob: Any) -> tuple[int, ...]:
    return blob.num, blob.channels, blob.height, blob.width


def _parsed(message: str, data: bytes) -> Any:
    try:
        return _messages()[message].FromString(data)
    except (DecodeError, ValueError):
        raise NotCaffeError from None


@cache
def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="caffe.proto", package="caffe", syntax="proto2")
    for message, fields in FIELDS.items():
        declared = file.message_type.add(name=message)
        for name, number, kind, repeated in fields:
            field = declared.field.add(name=name, number=number)
            field.label = Label.LABEL_REPEATED if repeated else Label.LABEL_OPTIONAL
            if kind in FIELDS:
                field.type, field.type_name = Type.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                field.type = getattr(Type, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe.{name}"))
        for name in FIELDS
    }
