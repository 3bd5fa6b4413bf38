"""Guesses and neighbours, held to the server's predictor and to all distances written out."""

from pathlib import Path

import numpy as np
import pytest
import torch

from alexnet.checkpoint import load
from alexnet.predictor import Predictor
from pipeline.dataset import Dataset
from pipeline.split import Split
from trainer.paper.experiment import Place
from trainer.paper.look_trial import look, picture, spread


def images(split: Split) -> torch.Tensor:
    return torch.from_numpy(
        np.stack([np.asarray(picture(split, n, 128)) for n in range(len(split))])
    ).permute(0, 3, 1, 2)


def test_it_finds_what_the_predictor_says_and_the_least_distances(
    dataset: Path, indexed: Path, tmp_path: Path
) -> None:
    (tmp_path / "models").symlink_to(indexed.parent.parent)
    settings = {"model": "tiny", "guessed": 8, "queries": 5, "neighbours": 6}
    place = Place(dataset, tmp_path, threads=1, gpu=False)
    found = look(settings, place)
    assert found == look(settings, place)
    packed, predictor = Dataset(dataset), Predictor([load(indexed)], "cpu")
    val_N, train_P = (s.label(np.arange(len(s))) for s in (packed.val, packed.train))
    probability_NK = predictor.classify(images(packed.val), 10).mean(1)
    for image in found["guesses"]:
        p_K = probability_NK[image["image"]]
        assert image["label"] == val_N[image["image"]]
        assert [k for k, _ in image["guesses"]] == p_K.argsort(descending=True)[:5].tolist()
        assert [p for _, p in image["guesses"]] == pytest.approx(p_K.sort().values.tolist()[::-1])
    val_NH, train_PH = (
        torch.cat([predictor.features(i) for i in images(split).split(16)]).double()
        for split in (packed.val, packed.train)
    )
    distance_NP = (val_NH[:, None] - train_PH).square().sum(2).sqrt()
    near_N6 = distance_NP.argsort(1)[:, :6].numpy()
    for query in found["queries"]:
        near_6 = [near["image"] for near in query["neighbours"]]
        assert near_6 == near_N6[query["image"]].tolist()
        least_6 = distance_NP[query["image"], near_6].tolist()
        assert [n["distance"] for n in query["neighbours"]] == pytest.approx(least_6, rel=1e-3)
        assert [n["label"] for n in query["neighbours"]] == train_P[near_6].tolist()
    same = np.mean([[train_P[p] == val_N[n] for p in near_6] for n, near_6 in enumerate(near_N6)])
    chance = np.mean([(train_P == label).mean() for label in val_N])
    assert found["validation"] == pytest.approx(
        {"pictures": len(val_N), "same": same, "chance": chance}
    )
    shown = [image["image"] for image in (*found["guesses"], *found["queries"])]
    assert len(set(shown)) == min(13, len(val_N))


def test_no_class_has_its_next_image_before_each_has_as_many() -> None:
    label_N = np.random.default_rng(3).permutation(np.repeat([0, 1, 2, 4], (9, 1, 5, 7)))
    order_N = spread(label_N)
    assert sorted(order_N) == list(range(22))
    assert (order_N == spread(label_N)).all()
    there_K = np.bincount(label_N)
    for count in range(22):
        taken_K = np.bincount(label_N[order_N[:count]], minlength=5)
        most = taken_K.max()
        assert ((taken_K >= most - 1) | (taken_K == there_K)).all()
    assert (np.diff(order_N[:4]) < 0).any()  # and not by their numbers
