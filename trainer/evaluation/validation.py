"""Top-1 and top-5 on validation pictures: integer counts, divided once at the end (§6)."""

import torch
from torch import Tensor, distributed

from alexnet.checkpoint import Accuracy
from alexnet.model import AlexNet
from alexnet.views import probabilities
from pipeline.batches import Decoding, whole_batches
from pipeline.dataset import Dataset
from pipeline.order import Shard
from trainer.evaluation.scores import ranks
from trainer.loop.precision import autocast

VIEWS = {"cpu": 128, "cuda": 2560}
"""Crops in one forward pass of a worker, by the kind of its device."""


def evaluate(
    model: AlexNet,
    mean_3HW: Tensor,
    dataset: Dataset,
    shard: Shard,
    *,
    views: int,
    precision: str,
    decoding: Decoding,
) -> Accuracy:
    """Counts over the validation split, summed over all workers; the same on every one of them."""
    training = model.training
    model.eval()
    total_3 = torch.zeros(3, dtype=torch.int64, device=mean_3HW.device)
    batch = shard.count * max(1, VIEWS[mean_3HW.device.type] // views)
    with torch.inference_mode(), autocast(precision, mean_3HW.device):
        for part in whole_batches(dataset, "val", shard, decoding, batch=batch):
            probability_NK = probabilities(model, part.image_NCHW, mean_3HW, views)
            total_3 += counts(probability_NK, part.label_N, part.real_N)
    model.train(training)
    if shard.count > 1:
        distributed.all_reduce(total_3)
    top1, top5, pictures = total_3.tolist()
    return Accuracy(views=views, pictures=pictures, top1=top1, top5=top5)


def counts(probability_NK: Tensor, label_N: Tensor, real_N: Tensor) -> Tensor:
    """(top-1 right, top-5 right, pictures) among the real rows, int64 (3,)."""
    rank_N = ranks(probability_NK, label_N)
    return torch.stack([((rank_N < top) & real_N).sum() for top in (1, 5)] + [real_N.sum()])
