"""A table of answers by `alexnet predict`, and by Ray Data as its guide to batch inference has it:
https://docs.ray.io/en/latest/data/batch_inference.html

Both answer with the same published model, by the same forward pass.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alexnet import checkpoint
from alexnet.predictor import BATCH_VIEWS, Predictor
from pipeline.cluster import cluster
from pipeline.sources.unlabelled import FILES, Photograph
from trainer.on_ray.workers import Workers
from trainer.prediction.part import PART_PHOTOGRAPHS, Plan, Question
from trainer.prediction.predict import answered

PASSES = 100
"""Over all photographs: more than all measurements take."""


@dataclass(frozen=True)
class Task:
    """What both are to do."""

    model: Path
    """The directory of a step."""
    files: tuple[str, ...]
    views: int
    cores: int


def ours(task: Task) -> Iterator[np.ndarray]:
    """A part after the other, each written to a folder: as many zeros as it has photographs."""
    photographs = [Photograph(file, None, FILES, file) for file in task.files]
    parts = [
        photographs[start : start + PART_PHOTOGRAPHS]
        for start in range(0, len(photographs), PART_PHOTOGRAPHS)
    ]
    # Each under a number of its own: none is there already.
    plans = [Plan.of(number, part) for number, part in enumerate(parts * PASSES)]
    about = checkpoint.read_about(task.model)
    question = Question(task.model, about, task.views, min(5, len(about.classes)), gpu=False)
    team = Workers(task.cores, threads=1, gpu=False)
    with tempfile.TemporaryDirectory(prefix="bench.") as folder, cluster():
        for done in answered(question, plans, Path(folder), team):
            yield np.zeros(done.photographs)


class Classify:
    """A callable class, as `map_batches` takes it."""

    def __init__(self, model: Path, views: int) -> None:
        torch.set_num_threads(1)
        self._predictor = Predictor([checkpoint.load(model)], "cpu")
        self._views = views

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        image_N3SS = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)
        vote_NVK = self._predictor.classify(image_N3SS, self._views)
        best = vote_NVK.mean(dim=1).topk(min(5, vote_NVK.shape[2]))
        return {
            "path": batch["path"],
            "label": best.indices.numpy(),
            "probability": best.values.numpy(),
        }


def ray_data(task: Task) -> Iterator[np.ndarray]:
    """`read_images` and `map_batches`: the labels of each batch."""
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(address="local", num_cpus=task.cores, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    size = checkpoint.read_about(task.model).size
    images: Any = ray.data.read_images(
        [*task.files] * PASSES, size=(size, size), mode="RGB", include_paths=True
    )
    answers = images.map_batches(
        Classify,
        fn_constructor_args=(task.model, task.views),
        batch_size=BATCH_VIEWS["cpu"] // task.views,
        num_cpus=1,
        concurrency=max(1, task.cores - 1),  # the others read
    )
    for batch in answers.iter_batches(batch_size=None):
        yield batch["label"]
