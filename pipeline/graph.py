"""The DALI graphs: file bytes to pixels. What varies from sample to sample comes in as data.

Images for a CPU and for a GPU come from the same graph but for its end: mirror, colour and mean are
DALI's on a GPU, and torch's on a CPU (pipeline.finish). Named arguments (crop positions, mirrors,
means) stay on the CPU in both.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import tee
from typing import Any, Literal

import numpy as np
import nvidia.dali
from nvidia.dali import fn, math, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.tensors import TensorCPU, TensorListCPU

from pipeline.feed import Crops, Images, TrainFeed, WholeFeed

Output = Literal["float32", "float16", "uint8"]
VERSION: str = nvidia.dali.__version__
OUTPUT = {"float32": types.FLOAT, "float16": types.FLOAT16, "uint8": types.UINT8}
COLUMN = {
    "file": types.UINT8,
    "crop_N2": types.FLOAT,
    "mirror_N": types.INT32,
    "mean_N3": types.FLOAT,
    "label_N": types.INT64,
    "real_N": types.BOOL,
    "sample_N": types.INT64,
}
"""The type of each column that a graph is fed, by its name in `pipeline.feed`."""


@dataclass(frozen=True)
class PixelRule:
    """How files become pixels."""

    size: int
    """Rows and columns of the whole image."""
    scale: bool
    """False: files are whole images. True: photographs of any size, whose centre square is
    scaled; close to what packing makes of them, not the same to the bit."""
    gpu: bool
    """Whether the images come out on a GPU."""
    hw_load: float | None
    """The field of that name of `pipeline.batches.Decoding`."""

    @property
    def decodes_on_gpu(self) -> bool:
        return self.gpu and self.hw_load is not None


@pipeline_def
def train_graph(
    feeds: Iterable[TrainFeed],
    rule: PixelRule,
    crop: int,
    mean_HW3: np.ndarray | None,
    output: Output,
) -> Crops | Images:
    """Training samples: on a CPU the crop and what `pipeline.finish` needs, on a GPU the image,
    `normalised`, (crop, crop, 3)."""
    fed: Any = TrainFeed(*_columns(feeds, TrainFeed._fields))
    file = _sound(fed.file, rule)
    place = {"crop_pos_y": fed.crop_N2[0], "crop_pos_x": fed.crop_N2[1]}
    if rule.decodes_on_gpu or rule.scale:
        image_HW3 = fn.crop(_whole(file, rule), crop=(crop, crop), **place)
    else:  # decodes no more rows and blocks than the crop needs
        image_HW3 = fn.decoders.image_crop(file, crop=(crop, crop), output_type=types.RGB, **place)
    if not rule.gpu:
        return Crops(image_HW3, fed.mirror_N, fed.mean_N3, fed.label_N, fed.real_N, fed.sample_N)
    image_HW3 = normalised(
        image_HW3.gpu(), fed.mirror_N, fed.mean_N3, mean_HW3, output, device="gpu"
    )
    return Images(image_HW3, fed.label_N.gpu(), fed.real_N.gpu(), fed.sample_N.gpu())


def normalised(
    image_HW3: DataNode,
    mirror: DataNode,
    mean: DataNode,
    mean_HW3: np.ndarray | None,
    output: Output,
    device: str,
) -> DataNode:
    """The images mirrored, minus the sample's `mean` (3 values) and, where there is one, `mean_HW3`
    (§4.1)."""
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
def whole_graph(feeds: Iterable[WholeFeed], rule: PixelRule) -> Images:
    """Whole images, (size, size, 3) uint8, and what belongs to each."""
    fed: Any = WholeFeed(*_columns(feeds, WholeFeed._fields))
    file = _sound(fed.file, rule)
    images = Images(_whole(file, rule), fed.label_N, fed.real_N, fed.sample_N)
    return Images(*(column.gpu() for column in images)) if rule.gpu else images


def _columns(feeds: Iterable[tuple[Any, ...]], names: tuple[str, ...]) -> Sequence[DataNode]:
    """The files, which come first, without a copy: DALI holds on to them until they are decoded."""
    of_files, of_others = tee(feeds)
    _, *others = names
    return (
        fn.external_source(
            source=(_tensors(feed[0]) for feed in of_files), dtype=COLUMN["file"], no_copy=True
        ),
        *fn.external_source(
            source=(feed[1:] for feed in of_others),
            num_outputs=len(others),
            dtype=[COLUMN[name] for name in others],
        ),
    )


def _tensors(files: list[np.ndarray]) -> TensorListCPU:
    """The files as DALI's tensors. A list of arrays it would take apart in Python, at three times
    the cost."""
    return TensorListCPU([TensorCPU(file, "") for file in files], "", False)


def _sound(file: DataNode, rule: PixelRule) -> DataNode:
    """`file` unchanged; an error where its header cannot be parsed or tells a wrong size.

    A decoder parses the headers of 32 and more files in its own thread and in others, which it does
    not stop when it comes upon such a file itself: they read freed memory (DALI 2.4) and end the
    process. It must not be given one.
    """
    shape = fn.peek_image_shape(file)
    whole = types.Constant(np.array([rule.size, rule.size, 3]), device="cpu")
    right = shape > 0 if rule.scale else shape == whole
    # The length relative to the file's: anything but 1 is an error.
    return fn.reinterpret(file, rel_shape=fn.reductions.min(right * 1.0, axes=0, keep_dims=True))


def _whole(file: DataNode, rule: PixelRule) -> DataNode:
    """Files -> whole images, (size, size, 3) uint8."""
    options: dict[str, Any] = {}
    if rule.decodes_on_gpu:
        options["hw_decoder_load"] = rule.hw_load
        if not rule.scale:  # all of one size: the memory for it is taken once
            options["preallocate_width_hint"] = options["preallocate_height_hint"] = rule.size
    image_HW3 = fn.decoders.image(
        file,
        device="mixed" if rule.decodes_on_gpu else "cpu",
        output_type=types.RGB,
        jpeg_fancy_upsampling=True,
        **options,
    )
    if not rule.scale:
        return image_HW3
    shape = image_HW3.shape()
    rows, columns = shape[0], shape[1]
    short = math.min(rows, columns)
    start = fn.stack((rows - short) / 2, (columns - short) / 2)
    end = fn.stack((rows + short) / 2, (columns + short) / 2)
    return fn.resize(
        image_HW3,
        size=(rule.size, rule.size),
        roi_start=start,
        roi_end=end,
        interp_type=types.INTERP_CUBIC,
        antialias=True,
    )
