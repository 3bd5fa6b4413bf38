"""The DALI graphs: file bytes to pixels. What varies from sample to sample comes in as data.

On the CPU and on the GPU the same graph but for its end: mirror, colour and mean are DALI's on a
GPU, and torch's on a CPU (pipeline.finish). Named arguments (crop positions, mirrors, means) stay
on the CPU in both.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nvidia.dali import fn, math, pipeline_def, types
from nvidia.dali.data_node import DataNode

Feed = Iterable[tuple[Any, ...]]
Output = Literal["float32", "float16", "uint8"]
OUTPUT = {"float32": types.FLOAT, "float16": types.FLOAT16, "uint8": types.UINT8}


@dataclass(frozen=True)
class Decoder:
    """How files become pixels."""

    size: int
    """Rows and columns of the whole picture."""
    scale: bool
    """False: files are whole pictures. True: photographs of any size, whose centre square is
    scaled; close to what packing makes of them, not the same to the bit."""
    gpu: bool
    hw_load: float
    """Share of a GPU's work that goes to its JPEG engines, 0..1; the rest runs in CUDA."""


@pipeline_def
def train_graph(
    feed: Feed, decoder: Decoder, crop: int, mean_HW3: np.ndarray | None, output: Output
) -> tuple[DataNode, ...]:
    """Feed of (file, crop_yx, mirror, mean, label, real, sample) -> the batch.

    On a GPU (image, label, real, sample), image `normalised`, (crop, crop, 3). On a CPU (image,
    mirror, mean, label, real, sample), image the crop, uint8, for `pipeline.finish`. `crop_yx` is
    0..1 of what is left around the crop.
    """
    file, crop_yx, mirror, mean, *passed = fn.external_source(
        source=feed,
        num_outputs=7,
        batch=True,
        dtype=[
            types.UINT8, types.FLOAT, types.INT32, types.FLOAT,
            types.INT64, types.BOOL, types.INT64,
        ],
    )  # fmt: skip
    place = {"crop_pos_y": crop_yx[0], "crop_pos_x": crop_yx[1]}
    if decoder.gpu or decoder.scale:
        image_HW3 = fn.crop(_whole(file, decoder), crop=(crop, crop), **place)
    else:  # decodes no more rows and blocks than the crop needs
        image_HW3 = fn.decoders.image_crop(file, crop=(crop, crop), output_type=types.RGB, **place)
    if not decoder.gpu:
        return image_HW3, mirror, mean, *passed
    image_HW3 = normalised(image_HW3, mirror, mean, mean_HW3, output, device="gpu")
    return image_HW3, *(value.gpu() for value in passed)


def normalised(
    image_HW3: DataNode,
    mirror: DataNode,
    mean: DataNode,
    mean_HW3: np.ndarray | None,
    output: Output,
    device: str,
) -> DataNode:
    """Mirrored, minus the sample's `mean` (3 values) and, where there is one, `mean_HW3` (§4.1)."""
    image_HW3 = fn.crop_mirror_normalize(
        image_HW3,
        mirror=mirror,
        mean=mean,
        dtype=OUTPUT[output] if mean_HW3 is None else types.FLOAT,
        output_layout="HWC",
    )
    if mean_HW3 is not None:
        image_HW3 -= types.Constant(mean_HW3, device=device, layout="HWC")
        if output != "float32":
            image_HW3 = fn.cast(image_HW3, dtype=OUTPUT[output])
    return image_HW3


@pipeline_def
def whole_graph(feed: Feed, decoder: Decoder) -> tuple[DataNode, ...]:
    """Feed of (file, label, real, sample) -> pictures, (size, size, 3) uint8, and the rest."""
    file, *passed = fn.external_source(
        source=feed,
        num_outputs=4,
        batch=True,
        dtype=[types.UINT8, types.INT64, types.BOOL, types.INT64],
    )
    return (
        _whole(file, decoder),
        *(value.gpu() if decoder.gpu else value for value in passed),
    )


def _whole(file: DataNode, decoder: Decoder) -> DataNode:
    """Files -> whole pictures, (size, size, 3) uint8."""
    options: dict[str, Any] = {}
    if decoder.gpu:
        options["hw_decoder_load"] = decoder.hw_load
        if not decoder.scale:  # all of one size: the memory for it is taken once
            options["preallocate_width_hint"] = options["preallocate_height_hint"] = decoder.size
    image_HW3 = fn.decoders.image(
        file,
        device="mixed" if decoder.gpu else "cpu",
        output_type=types.RGB,
        jpeg_fancy_upsampling=True,
        **options,
    )
    if not decoder.scale:
        return image_HW3
    shape = image_HW3.shape()
    rows, columns = shape[0], shape[1]
    short = math.min(rows, columns)
    start = fn.stack((rows - short) / 2, (columns - short) / 2)
    end = fn.stack((rows + short) / 2, (columns + short) / 2)
    return fn.resize(
        image_HW3,
        size=(decoder.size, decoder.size),
        roi_start=start,
        roi_end=end,
        interp_type=types.INTERP_CUBIC,
        antialias=True,
    )
