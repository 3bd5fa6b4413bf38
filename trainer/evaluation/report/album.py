"""Small copies of images, with their names, as a page holds them."""

from base64 import b64encode
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from alexnet.pixels import ImageError, to_square
from alexnet.thumbnails import shrunk
from pipeline.split import Split

SIDE = 160
"""Rows and columns of a thumbnail: sharp on a screen of twice the usual density."""


class Thumbnail(NamedTuple):
    name: str
    """What the source called the image."""
    uri: str
    """The image itself; empty where it cannot be decoded."""


def thumbnails(split: Split, samples: Sequence[int], size: int) -> list[Thumbnail]:
    """Of images of a split, as the network sees them in rows and columns of `size`."""
    return [
        Thumbnail(name, _uri(split.jpeg(sample).tobytes(), size))
        for name, sample in zip(split.names(np.array(samples, int)), samples, strict=True)
    ]


def data_uri(content: bytes, kind: str) -> str:
    """A file as an address, which needs no other file."""
    return f"data:image/{kind};base64,{b64encode(content).decode()}"


def _uri(content: bytes, size: int) -> str:
    try:
        return data_uri(shrunk(to_square(content, size), SIDE), "jpeg")
    except ImageError:
        return ""
