"""A table of answers by `alexnet predict`, and by Ray Data as its guide to batch inference has it:
https://docs.ray.io/en/latest/data/batch_inference.html

Both answer with the same published model, by the same forward pass. Each yields an array as long as
the photographs of a whole pass, without end; Ray runs on, the processes that answer start anew.
"""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import parquet

from alexnet import checkpoint
from alexnet.predictor import BATCH_VIEWS, Predictor
from pipeline.cluster import cluster
from trainer.prediction.predict import predict

TOP = 5


@dataclass(frozen=True)
class Task:
    """What both are to do."""

    model: Path
    """The directory of a step."""
    folder: Path
    views: int
    cores: int
    """Processors that answer, or read and answer."""


def ours(task: Task) -> Iterator[np.ndarray]:
    with cluster(), tempfile.TemporaryDirectory(prefix="bench.") as folder:
        out = Path(folder) / "answers.parquet"
        while True:
            predict(
                task.model, [str(task.folder)], out,
                views=task.views, top=TOP, workers=task.cores, device="cpu",
            )  # fmt: skip
            yield np.zeros(parquet.read_metadata(out).num_rows)
            out.unlink()


class Classify:
    """A callable class, as `map_batches` takes it."""

    def __init__(self, model: Path, views: int) -> None:
        torch.set_num_threads(1)
        self._predictor = Predictor([checkpoint.load(model)], "cpu")
        self._views = views

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        image_N3SS = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)
        vote_NVK = self._predictor.classify(image_N3SS, self._views)
        best = vote_NVK.mean(dim=1).topk(min(TOP, vote_NVK.shape[2]))
        return {
            "path": batch["path"],
            "label": best.indices.numpy(),
            "probability": best.values.numpy(),
        }


def ray_data(task: Task) -> Iterator[np.ndarray]:
    """`read_images`, `map_batches` and `write_parquet`."""
    import ray

    ray.init(address="local", num_cpus=task.cores, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    size = checkpoint.read_about(task.model).size
    while True:
        images: Any = ray.data.read_images(
            str(task.folder), size=(size, size), mode="RGB", include_paths=True
        )
        answers = images.map_batches(
            Classify,
            fn_constructor_args=(task.model, task.views),
            batch_size=BATCH_VIEWS["cpu"] // task.views,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=max(1, task.cores - 1)),  # the others read
        )
        folder = tempfile.mkdtemp(prefix="bench.")
        answers.write_parquet(folder)
        yield np.zeros(parquet.read_table(folder).num_rows)
        shutil.rmtree(folder)
