"""The DALI graphs: JPEG bytes to pixels. What varies from sample to sample comes in as data.

On the CPU and on the GPU the same graph; only the decoder and what follows it move.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode

Feed = Iterable[tuple[Any, ...]]


@pipeline_def
def train_graph(feed: Feed, crop: int, mean_HW3: np.ndarray, gpu: bool) -> tuple[DataNode, ...]:
    """Feed of (jpeg, crop_yx, mirror, colour, label, real, sample) -> the batch.

    image: (crop, crop, 3) float32, cropped, mirrored, colour added, mean picture subtracted (§4.1);
    label int64, real bool, sample int64 as fed. `crop_yx` is 0..1 of what is left around the crop.
    """
    jpeg, crop_yx, mirror, colour, *passed = fn.external_source(
        source=feed,
        num_outputs=7,
        batch=True,
        dtype=[
            types.UINT8, types.FLOAT, types.INT32, types.FLOAT,
            types.INT64, types.BOOL, types.INT64,
        ],
    )  # fmt: skip
    place = {"crop_pos_y": crop_yx[0], "crop_pos_x": crop_yx[1]}
    if gpu:
        image_HW3 = fn.decoders.image(
            jpeg, device="mixed", output_type=types.RGB, jpeg_fancy_upsampling=True
        )
        image_HW3 = fn.crop(image_HW3, crop=(crop, crop), **place)
    else:  # decodes no more rows and blocks than the crop needs
        image_HW3 = fn.decoders.image_crop(jpeg, crop=(crop, crop), output_type=types.RGB, **place)
    # The colour is added by subtracting its negative: normalisation takes a mean per sample.
    image_HW3 = fn.crop_mirror_normalize(
        image_HW3, mirror=mirror, mean=-colour, dtype=types.FLOAT, output_layout="HWC"
    )
    device = "gpu" if gpu else "cpu"
    image_HW3 -= types.Constant(mean_HW3, device=device, layout="HWC")
    return (image_HW3, *(value.gpu() if gpu else value for value in passed))


@pipeline_def
def whole_graph(feed: Feed, gpu: bool) -> tuple[DataNode, ...]:
    """Feed of (jpeg, label, real, sample) -> pictures, (size, size, 3) uint8, and the rest."""
    jpeg, *passed = fn.external_source(
        source=feed,
        num_outputs=4,
        batch=True,
        dtype=[types.UINT8, types.INT64, types.BOOL, types.INT64],
    )
    image_HW3 = fn.decoders.image(
        jpeg,
        device="mixed" if gpu else "cpu",
        output_type=types.RGB,
        jpeg_fancy_upsampling=True,
    )
    return (image_HW3, *(value.gpu() if gpu else value for value in passed))
