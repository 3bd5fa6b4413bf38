"""Our loader and packer, and what others would write: each yields batches without end.

Shapes: N images, C channels, H rows, W columns; batches are (N, C, H, W).
"""

import io
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import simplejpeg
import torch
import torch.utils.data
from nvidia.dali import fn, pipeline_def, types
from nvidia.dali.data_node import DataNode
from nvidia.dali.plugin.pytorch import DALIClassificationIterator
from PIL import Image
from torch import Tensor

from pipeline.batches import Decoding, train_batches
from pipeline.dataset import Dataset
from pipeline.destination import RECORDS
from pipeline.graph import Output
from pipeline.order import Shard
from pipeline.shard import ShardPlan, pack_shard
from pipeline.sources.source import Reader

ALONE = Shard(index=0, count=1, device_id=None)
EPOCHS = 10**9
"""No end."""
STD = 0.225
"""Any will do: it costs the same."""


@dataclass(frozen=True)
class Task:
    """What every loader is to do."""

    dataset: Path
    """Packed."""
    files: Path
    """The dataset's training JPEGs, the same bytes, as files in class folders."""
    batch: int
    crop: int
    """Rows and columns."""
    threads: int
    """Or worker processes."""
    device: str = "cpu"
    """Where batches are delivered; or cuda."""

    @property
    def mean_3(self) -> list[float]:
        """The mean of each colour, 0..255 scale."""
        return list(Dataset(self.dataset).manifest.colour.mean)


def ours(task: Task, output: Output, hw_load: float | None = Decoding.hw_load) -> Iterator[Tensor]:
    """Epoch after epoch, as in training; without the padding, which comes last in a batch. In
    float32 the mean image is subtracted and colour noise added."""
    dataset, decoding = Dataset(task.dataset), Decoding(task.threads, hw_load=hw_load)
    shard, samples = Shard(0, 1, 0) if task.device == "cuda" else ALONE, len(dataset.train)
    batches = train_batches(
        dataset, shard, decoding, seed=0, epoch=0, start=0,
        batch=task.batch, crop=task.crop, epochs=EPOCHS, output=output,
    )  # fmt: skip
    per_epoch = -(-samples // task.batch)
    for number, batch in enumerate(batches):
        yield batch.image_NCHW[: samples - number % per_epoch * task.batch]


class Photographs(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """JPEG files in class folders through the transforms of every tutorial, as torchvision has
    them: RandomCrop, RandomHorizontalFlip, and with a mean ToTensor and Normalize."""

    def __init__(self, folder: Path, crop: int, mean_3: Tensor | None) -> None:
        self.files = sorted(folder.glob("*/*"))
        self.label = {path.name: label for label, path in enumerate(sorted(folder.iterdir()))}
        self.crop, self.mean_3 = crop, mean_3

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> tuple[Tensor, int]:
        path = self.files[number]
        image = decoded(path)
        x, y = (int(torch.randint(side - self.crop + 1, ())) for side in image.size)
        image = image.crop((x, y, x + self.crop, y + self.crop))
        if torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image_3HW = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        if self.mean_3 is not None:
            image_3HW = image_3HW.contiguous().to(torch.float32).div(255)
            image_3HW = image_3HW.sub_(self.mean_3[:, None, None]).div_(STD)
        return image_3HW, self.label[path.parent.name]


def write_files(dataset: Dataset, folder: Path) -> None:
    """The training JPEGs as they are, one file each, in class folders."""
    for name in dataset.manifest.classes:
        (folder / name.id).mkdir(parents=True)
    for sample, label in enumerate(dataset.train.index["label"]):
        path = folder / dataset.manifest.classes[label].id / file_name(sample)
        dataset.train.jpeg(sample).tofile(path)


def file_name(sample: int) -> str:
    return f"{sample:08d}.jpg"


def decoded(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def data_loader(task: Task, output: Output) -> Iterator[Tensor]:
    mean_3 = torch.tensor(task.mean_3) / 255 if output == "float32" else None
    loader = torch.utils.data.DataLoader(
        Photographs(task.files, task.crop, mean_3),
        batch_size=task.batch,
        shuffle=True,
        num_workers=task.threads,
        persistent_workers=True,
    )
    while True:
        for image_NCHW, _ in loader:
            yield image_NCHW.to(task.device)


def torchvision_cuda(task: Task) -> Iterator[Tensor]:
    """JPEGs in memory, decoded by torchvision on the GPU, the same crop of each; uint8."""
    from torchvision.io import decode_jpeg

    split = Dataset(task.dataset).train
    jpegs = [torch.from_numpy(split.jpeg(sample).copy()) for sample in range(len(split))]
    while True:
        for first in range(0, len(jpegs), task.batch):
            images = decode_jpeg(jpegs[first : first + task.batch], device="cuda")
            yield torch.stack(images)[..., : task.crop, : task.crop]


def simplejpeg_alone(task: Task) -> Iterator[np.ndarray]:
    """JPEGs in memory, decoded whole and dropped: the limit of any loader that decodes so.

    Yields a cut of the last image as if it were all of them.
    """
    split = Dataset(task.dataset).train
    jpegs = [split.jpeg(sample).tobytes() for sample in range(len(split))]
    parts = [jpegs[first : first + task.batch] for first in range(0, len(jpegs), task.batch)]

    def decode(part: list[bytes]) -> np.ndarray:
        for jpeg in part:
            image_HW3 = simplejpeg.decode_jpeg(jpeg)
        image_3HW = image_HW3[: task.crop, : task.crop].transpose(2, 0, 1)
        return np.broadcast_to(image_3HW, (len(part), *image_3HW.shape))

    with ThreadPoolExecutor(task.threads) as pool:
        waiting: deque[Future[np.ndarray]] = deque()
        while True:
            for part in parts:
                waiting.append(pool.submit(decode, part))
                if len(waiting) > 2 * task.threads:
                    yield waiting.popleft().result()


@pipeline_def
def _graph(
    task: Task, dtype: types.DALIDataType, mean: list[float], hw_load: float
) -> tuple[DataNode, DataNode]:
    """The graph of DALI's guide to class folders and PyTorch."""
    jpeg, label = fn.readers.file(file_root=str(task.files), random_shuffle=True, name="train")
    on_gpu = {"device": "mixed", "hw_decoder_load": hw_load}
    how = on_gpu if task.device == "cuda" else {"device": "cpu"}
    image = fn.decoders.image(jpeg, output_type=types.RGB, **how)
    image = fn.crop_mirror_normalize(
        image,
        crop=(task.crop, task.crop),
        crop_pos_x=fn.random.uniform(range=(0.0, 1.0)),
        crop_pos_y=fn.random.uniform(range=(0.0, 1.0)),
        mirror=fn.random.coin_flip(),
        dtype=dtype,
        mean=mean,
        output_layout="CHW",
    )
    return image, label


def dali(task: Task, output: Output, hw_load: float = 0.65) -> Iterator[Tensor]:
    dtype = {"float32": types.FLOAT, "float16": types.FLOAT16, "uint8": types.UINT8}[output]
    mean = [0.0] if output == "uint8" else task.mean_3
    graph = _graph(
        task, dtype, mean, hw_load,
        batch_size=task.batch, num_threads=task.threads,
        device_id=0 if task.device == "cuda" else None,
    )  # fmt: skip
    loader = DALIClassificationIterator(graph, reader_name="train")
    while True:
        for (batch,) in loader:
            yield batch["data"]


def our_packing(reader: Reader, plan: ShardPlan, directory: Path) -> Iterator[np.ndarray]:
    """Bytes of each JPEG, (N,)."""
    while True:
        # A new one each time: a shard that is there already is not packed again.
        with tempfile.TemporaryDirectory(dir=directory) as fresh:
            for name in (plan.split, RECORDS):
                (Path(fresh) / name).mkdir()
            shard, _ = pack_shard(reader, plan, Path(fresh))
        yield shard.index["size"]


def pillow_packing(files: list[Path], size: int) -> Iterator[np.ndarray]:
    """A bare loop over photographs: the centre square, resized, as JPEG in memory.

    Yields the bytes of each, (N,).
    """
    while True:
        jpegs = [_pack(file, size) for file in files]
        yield np.array([len(jpeg) for jpeg in jpegs], np.uint32)


def _pack(path: Path, size: int) -> bytes:
    image = decoded(path)
    short = min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    box = (left, top, left + short, top + short)
    square = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
    file = io.BytesIO()
    square.save(file, "JPEG", quality=90, subsampling="4:2:0")
    return file.getvalue()
