"""Top-1 and top-5 on validation images: integer counts, divided once at the end (§6)."""

from itertools import islice

import torch
from torch import Tensor, distributed

from alexnet.checkpoint import Accuracy
from alexnet.model import AlexNet
from alexnet.views import probabilities
from pipeline.batches import Batches, Decoding, whole_batches
from pipeline.dataset import Dataset
from pipeline.feed import WholeFeed
from pipeline.order import Shard
from trainer.evaluation.scores import macro_average, ranks
from trainer.loop.precision import autocast

IMAGES = {"cpu": {1: 128, 10: 12}, "cuda": {1: 256, 10: 256}}
"""In one forward pass of a worker at most: by the kind of its device and the views of an image."""


class Validator:
    """Counts over a dataset's validation split, pass after pass.

    What decodes the images is built for the first pass and kept for those to come, of which it has
    decoded two batches: beside a GPU it takes longer to build than a small split to read. There it
    is the same for one view and for ten, and its memory stays taken while the run trains.
    """

    def __init__(self, dataset: Dataset, shard: Shard, decoding: Decoding) -> None:
        self._dataset, self._shard, self._decoding = dataset, shard, decoding
        self._most = IMAGES["cpu" if shard.device_id is None else "cuda"]
        self._kept: dict[int, Batches[WholeFeed]] = {}
        """By the size of the batch, each before its next pass."""

    def __call__(self, model: AlexNet, mean_3HW: Tensor, *, views: int, precision: str) -> Accuracy:
        """One pass by 1 or 10 views, summed over all workers, who make it at once and get the same.

        `mean_3HW` is on the model's device. Raises DatasetError where the data is damaged.
        """
        training = model.training
        model.eval()
        classes = model.config.classes
        total_3K = torch.zeros(3, classes, dtype=torch.int64, device=mean_3HW.device)
        batch = self._batch(views)
        batches = self._kept.pop(batch, None) or whole_batches(
            self._dataset, "val", self._shard, self._decoding, batch=batch, passes=None
        )
        with torch.inference_mode(), autocast(precision, mean_3HW.device):
            for part in islice(batches, -(-len(self._dataset.val) // batch)):
                probability_NK = probabilities(model, part.image_NCHW, mean_3HW, views)
                total_3K += counts(probability_NK, part.label_N, part.real_N)
        self._kept[batch] = batches  # not where an error ended the pass half-way
        model.train(training)
        if self._shard.count > 1:
            distributed.all_reduce(total_3K)
        top1, top5, images = total_3K.sum(dim=1).tolist()
        macro = macro_average(total_3K[0].tolist(), total_3K[2].tolist())
        return Accuracy(views=views, pictures=images, top1=top1, top5=top5, macro_top1=macro)

    def _batch(self, views: int) -> int:
        """Images in a batch of all workers: the fewest batches within the limit, of one size."""
        share = -(-len(self._dataset.val) // self._shard.count)
        batches = -(-share // self._most[views])
        return self._shard.count * -(-share // batches)


def counts(probability_NK: Tensor, label_N: Tensor, real_N: Tensor) -> Tensor:
    """(top-1 right, top-5 right, images) of each class among the real rows, int64 (3, K)."""
    rank_N = ranks(probability_NK, label_N)
    counted_3N = torch.stack([(rank_N < 1) & real_N, (rank_N < 5) & real_N, real_N]).long()
    none_3K = counted_3N.new_zeros(3, probability_NK.shape[1])
    return none_3K.index_add(1, label_N, counted_3N)
