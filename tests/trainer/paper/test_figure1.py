"""The race of Figure 1: the network, a trial, when it arrives, and the ratio."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.sources.cifar import training_images
from trainer.loop.optimizer import SGD2012
from trainer.paper.cifar_trial import training_errors
from trainer.paper.experiment import Place, Result, Row
from trainer.paper.figure1 import Figure1, train_four_layers
from trainer.paper.four_layers import FourLayers


def test_the_network_has_the_parameters_of_the_released_configuration() -> None:
    network = FourLayers("relu", seed=0)
    assert sum(p.numel() for p in network.parameters()) == 89_578
    assert network.conv1.weight.std().item() == pytest.approx(1e-4, rel=0.05)
    assert network.fc4.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_both_activations_start_from_the_same_weights() -> None:
    weights = [FourLayers(a, seed=3).state_dict() for a in ("relu", "tanh")]  # type: ignore[arg-type]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_first_epoch_by_hand(cifar: Path) -> None:
    """One mini-batch is all of it: the error before the step, then that after it."""
    image_N3HW, label_N = (torch.from_numpy(part[:100].copy()) for part in training_images(cifar))
    label_N = label_N.long()
    errors = training_errors(image_N3HW, label_N, "tanh", 0.01, seed=1)
    network = FourLayers("tanh", seed=1)
    optimizer = SGD2012(network, 0.01, weight_decay=0)
    x = image_N3HW.float() - image_N3HW.float().mean(0)
    for _ in range(3):
        logits = network(x)
        assert next(errors) == pytest.approx(
            (logits.argmax(1) != label_N).float().mean().item(), abs=0.021
        )
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, label_N).backward()
        optimizer.step()


def test_a_row_gives_the_same_from_the_same_seed_alone(figure: Figure1, tmp_path: Path) -> None:
    first, *_ = figure.rows(lambda row: None)
    place = Place(first.data, tmp_path, threads=1, gpu=False)
    found = train_four_layers(first.settings, place)
    assert len(found["errors"]) == 1
    assert found == train_four_layers(first.settings, place)
    assert found != train_four_layers({**first.settings, "seed": 7}, place)


def test_the_learning_rates_are_chosen_for_each_and_by_another_seed(figure: Figure1) -> None:
    best = {"relu": 0.002, "tanh": 0.001}

    def found(row: Row) -> Result | None:
        if row.settings["seed"]:
            return None
        right = row.settings["rate"] == best[row.settings["activation"]]
        return {"errors": [0.5 if right else 0.6]}

    assert len(figure.rows(lambda row: None)) == 4
    measured = figure.rows(found)[4:]
    assert [(row.settings["activation"], row.settings["seed"]) for row in measured] == [
        ("relu", 1), ("tanh", 1), ("relu", 2), ("tanh", 2),
    ]  # fmt: skip
    assert all(row.settings["rate"] == best[row.settings["activation"]] for row in measured)


def test_the_outcome_says_what_was_found(figure: Figure1) -> None:
    def found(row: Row) -> Result:
        if not row.settings["seed"]:
            return {"errors": [0.5]}
        return {"errors": [0.5, 0.2] if row.settings["activation"] == "relu" else [0.6, 0.5, 0.4]}

    outcome = figure.outcome(found)
    (text,) = outcome.paragraphs
    assert "ReLU is more than" in text
    assert "the paper says 6 times" in text
    assert np.isclose(outcome.numbers["epochs"]["relu"][0], 0.5 + 0.25 / 0.3)
    assert outcome.numbers["epochs"]["tanh"] == [None, None]
