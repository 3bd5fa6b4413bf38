"""How often networks are wrong, one by one and as the mean of their probabilities (Table 2).

Shapes: M networks, V of 1 and 10 views, N validation images, K classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from alexnet.checkpoint import current
from pipeline.dataset import Dataset
from pipeline.order import Shard
from trainer.evaluation.ensemble import mixed, search_weights
from trainer.evaluation.probabilities import Validation, answers, assemble
from trainer.evaluation.scores import likelihood_loss, ranks
from trainer.paper.experiment import Place, Result, Settings

VIEWS = (1, 10)
SEARCHED = "CNNs, weights searched"
STARRED = "CNNs*, weights searched"


def top_of(classes: int) -> int:
    """The k of the top-k errors that a search lowers: 5 as in 2012, but among at most five classes,
    where no top-5 guess is wrong, 1."""
    return 5 if classes > 5 else 1


def score_together(settings: Settings, place: Place) -> Result:
    """The scores of networks of `place.work`, by the lines of Table 2: of each single one, and of
    several as one, with equal weights and with searched ones. Those marked * have seen more images,
    and a mixture so marked has the others in it too."""
    dataset, images = Dataset(place.data), Validation(place.data)
    singles, starred = settings["models"], settings["pre-trained"]
    models = [current(place.work / "models" / name) for name in (*singles, *starred)]
    shard, classes = Shard(0, 1, 0 if place.gpu else None), len(dataset.manifest.classes)
    parts = answers(images, models, VIEWS, shard, place.threads)
    p_MVNK = assemble(parts, len(images), classes, len(models), len(VIEWS)).probability_MVNK
    label_N = torch.from_numpy(dataset.val.label(np.arange(len(dataset.val))))
    count = len(singles)
    lines = {
        "1 CNN": [scores(p_VNK, label_N) for p_VNK in p_MVNK[:count]],
        "1 CNN*": [scores(p_VNK, label_N) for p_VNK in p_MVNK[count:]],
    }
    weights = {}
    for line, searched, members in (("CNNs", SEARCHED, count), ("CNNs*", STARRED, len(models))):
        if members > 1:
            lines[line] = [scores(mixed(p_MVNK[:members], (1.0,) * members), label_N)]
            found_VNK, weights[searched] = crossed(p_MVNK[:members], label_N, top_of(classes))
            lines[searched] = [scores(found_VNK, label_N)]
    return {"pictures": len(label_N), "lines": lines, "weights": weights}


def scores(probability_VNK: Tensor, label_N: Tensor) -> list[dict[str, float]]:
    """By one view and by ten: how many images have the right label as the best guess and among the
    five best, and the mean negative log-likelihood of the right label, in nats."""
    return [
        {
            "views": views,
            "top1": int((ranks(p_NK, label_N) < 1).sum()),
            "top5": int((ranks(p_NK, label_N) < 5).sum()),
            "nll": likelihood_loss(p_NK, label_N),
        }
        for views, p_NK in zip(VIEWS, probability_VNK, strict=True)
    ]


def crossed(
    probability_MVNK: Tensor, label_N: Tensor, top: int
) -> tuple[Tensor, list[Sequence[float]]]:
    """The networks' mean by searched weights, (V, N, K), and the weights of either half of the
    images. Those of every other image are found by the rest, so that none is scored by weights that
    were tuned on it; by ten views, as in 2012."""
    half_N = torch.arange(len(label_N)) % 2
    mean_VNK = torch.empty_like(probability_MVNK[0])
    weights: list[Sequence[float]] = []
    for half in (0, 1):
        ours_N, others_N = half_N == half, half_N != half
        weights.append(search_weights(probability_MVNK[:, -1, others_N], label_N[others_N], top))
        mean_VNK[:, ours_N] = mixed(probability_MVNK[:, :, ours_N], weights[-1])
    return mean_VNK, weights
