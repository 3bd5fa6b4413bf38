"""What a trained network says of a few images, and which training images are near them (Figure 4).

Shapes: N validation images, G of them that are guessed, Q that are queries, P training images,
H hidden units, S rows and columns of an image.
"""

from typing import Any

import numpy as np
import torch
from PIL import Image

from alexnet.checkpoint import current, load
from alexnet.pixels import to_square
from pipeline.dataset import Dataset
from pipeline.split import Split
from trainer.evaluation.probabilities import Network
from trainer.paper.experiment import Place, Result, Settings
from trainer.publishing.similar_index import features, make_index

GUESSES = 5


def look(settings: Settings, place: Place) -> Result:
    """The five best guesses about `guessed` validation images, by ten views, and the `neighbours`
    training images that are nearest to each of `queries` others, by the Euclidean distance of their
    fc7; also how often the neighbours of every validation image are of its class, and how often
    any training images would be."""
    dataset = Dataset(place.data)
    step = current(place.work / "models" / settings["model"])
    loaded = load(step)
    index = make_index(
        "Flat", loaded.model.fc7.out_features, len(dataset.train),
        features(loaded, dataset.train, None),
    )  # fmt: skip
    feature_NH = np.concatenate(list(features(loaded, dataset.val, None)))
    val_N = dataset.val.label(np.arange(len(dataset.val)))
    train_P = dataset.train.label(np.arange(len(dataset.train)))
    count = min(settings["neighbours"], len(train_P))
    _, near_N6 = index.search(feature_NH, count)
    order_N = spread(val_N)
    guessed_G = order_N[: settings["guessed"]]
    others = range(settings["guessed"], settings["guessed"] + settings["queries"])
    query_Q = order_N.take(others, mode="wrap")
    square_Q6, near_Q6 = index.search(feature_NH[query_Q], count)
    image_G3SS = np.stack(
        [np.asarray(picture(dataset.val, n, dataset.manifest.size)) for n in guessed_G]
    ).transpose(0, 3, 1, 2)
    network = Network(step, torch.device("cuda:0" if place.gpu else "cpu"), served=True)
    (probability_GK,) = network(torch.from_numpy(image_G3SS), (10,))
    return {
        "guesses": [
            image | {"guesses": [[int(k), float(p_K[k])] for k in best(p_K)]}
            for image, p_K in zip(_described(dataset.val, guessed_G), probability_GK, strict=True)
        ],
        "queries": [
            image
            | {
                "neighbours": [
                    near | {"distance": float(distance)}
                    for near, distance in zip(
                        _described(dataset.train, near_6), np.sqrt(square_6), strict=True
                    )
                ]
            }
            for image, near_6, square_6 in zip(
                _described(dataset.val, query_Q), near_Q6, square_Q6, strict=True
            )
        ],
        "validation": {
            "pictures": len(val_N),
            "same": float((train_P[near_N6] == val_N[:, None]).mean()),
            "chance": float((dataset.train_counts()[val_N] / len(train_P)).mean()),
        },
    }


def spread(label_N: np.ndarray) -> np.ndarray:
    """All images in a random order, always the same, in which every class has had its first before
    any has its second, and so on; (N,) int64."""
    random_N = np.random.default_rng(0).permutation(len(label_N))
    by_class_N = np.argsort(label_N[random_N], kind="stable")
    sorted_N = label_N[random_N][by_class_N]
    turn_N = np.empty_like(by_class_N)
    turn_N[by_class_N] = np.arange(len(label_N)) - np.searchsorted(sorted_N, sorted_N)
    return random_N[np.argsort(turn_N, kind="stable")]


def best(probability_K: np.ndarray) -> np.ndarray:
    """The labels of the five best guesses, the most probable first."""
    return np.argsort(-probability_K, kind="stable")[:GUESSES]


def picture(split: Split, number: int, size: int) -> Image.Image:
    """An image of a packed split, `size` rows and columns."""
    return to_square(split.jpeg(number).tobytes(), size, ("JPEG",))


def _described(split: Split, image_N: np.ndarray) -> list[dict[str, Any]]:
    names, labels = split.names(image_N), split.label(image_N)
    return [
        {"image": int(number), "name": name, "label": int(label)}
        for number, name, label in zip(image_N, names, labels, strict=True)
    ]
