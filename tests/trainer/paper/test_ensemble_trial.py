"""Scores of several networks, held to `alexnet evaluate`, and weights that saw other images."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainer.evaluation.ensemble import mixed, search_weights
from trainer.paper.ensemble_trial import crossed, score_together
from trainer.paper.experiment import Place


def test_it_is_what_evaluate_says(
    dataset: Path, two_models: tuple[Path, Path], tmp_path: Path, run_on_cluster: Callable
) -> None:
    (tmp_path / "models").symlink_to(two_models[0].parent)
    settings = {"models": [two_models[0].name], "pre-trained": [two_models[1].name]}
    found = score_together(settings, Place(dataset, tmp_path, threads=1, gpu=False))
    file = tmp_path / "evaluated.json"
    done = run_on_cluster("trainer", "evaluate", *two_models, "--data", dataset, "--json", file)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())["sections"][0]["rows"]
    for line, row in zip(("1 CNN", "1 CNN*", "CNNs*"), rows, strict=True):
        (scores,) = found["lines"][line]
        for ours, theirs in zip(scores, row["scores"], strict=True):
            for counted in ("views", "top1", "top5"):
                assert ours[counted] == theirs[counted]
            assert ours["nll"] == pytest.approx(theirs["nll"], rel=1e-4)
    assert found["pictures"] == 12
    assert set(found["lines"]) - {"1 CNN", "1 CNN*", "CNNs*"} == set(found["weights"])


def test_no_image_has_a_say_in_the_weights_that_score_it() -> None:
    random = torch.Generator().manual_seed(1)
    probability_MVNK = torch.randn(3, 2, 41, 4, generator=random).softmax(3)
    label_N = torch.randint(0, 4, (41,), generator=random)
    mean_VNK, weights = crossed(probability_MVNK, label_N, top=1)
    for half in (0, 1):
        ours, others = slice(half, None, 2), slice(1 - half, None, 2)
        expected = search_weights(probability_MVNK[:, 1, others], label_N[others], 1)
        assert weights[half] == expected
        for view in (0, 1):
            torch.testing.assert_close(
                mean_VNK[view, ours], mixed(probability_MVNK[:, view, ours], expected)
            )
    other_N = label_N.clone()
    other_N[::2] = (other_N[::2] + 1) % 4
    assert crossed(probability_MVNK, other_N, top=1)[1][0] == weights[0]
