"""python -m tests.benchmarks.prediction.ray_data MODEL FOLDER OUT VIEWS CORES LAYERS: a table of
answers by Ray Data, as its guide to batch inference has it:
https://docs.ray.io/en/latest/data/batch_inference.html
"""

import sys
from pathlib import Path

import numpy as np
import ray
import torch

from alexnet import checkpoint
from alexnet.predictor import BATCH_VIEWS, Predictor
from alexnet.views import one_view, ten_views
from tests.benchmarks.network import plain


class Classify:
    """A callable class, as `map_batches` takes it: the network of torch's own layers, or ours."""

    def __init__(self, model: Path, views: int, layers: str) -> None:
        torch.set_num_threads(1)
        loaded = checkpoint.load(model)
        self._predictor = Predictor([loaded], "cpu") if layers == "ours" else None
        self._network, self._mean_3HW = plain(loaded.model), loaded.mean_3HW
        self._views = views

    @torch.inference_mode()
    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        image_N3SS = torch.from_numpy(batch["image"]).permute(0, 3, 1, 2)
        if self._predictor:
            vote_NVK = self._predictor.classify(image_N3SS, self._views)
        else:
            cut = ten_views if self._views == 10 else one_view
            view_NV3HW = cut(image_N3SS, self._mean_3HW.shape[-1]) - self._mean_3HW
            logit_MK = self._network(view_NV3HW.flatten(0, 1).contiguous())
            vote_NVK = logit_MK.softmax(dim=1).unflatten(0, (-1, self._views))
        best = vote_NVK.mean(dim=1).topk(min(5, vote_NVK.shape[2]))
        return {
            "path": batch["path"],
            "label": best.indices.numpy(),
            "probability": best.values.numpy(),
        }


def main(model: Path, folder: str, out: str, views: int, cores: int, layers: str) -> None:
    ray.init(address="local", num_cpus=cores, include_dashboard=False, log_to_driver=False)
    size = checkpoint.read_about(model).size
    images = ray.data.read_images(folder, size=(size, size), mode="RGB", include_paths=True)
    images.map_batches(
        Classify,
        fn_constructor_args=(model, views, layers),
        batch_size=BATCH_VIEWS["cpu"] // views,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=max(1, cores - 1)),  # the others read
    ).write_parquet(out)


if __name__ == "__main__":
    model, folder, out, views, cores, layers = sys.argv[1:]
    main(Path(model), folder, out, int(views), int(cores), layers)
