"""Counts against loops over single images."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from alexnet.classes import ClassLabel
from trainer.evaluation.scores import calibration_error, likelihood_loss, ranks, score


@st.composite
def answers(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Probabilities with many ties, (N, K) of 2 to 8 classes, and labels."""
    count, classes = draw(st.integers(1, 12)), draw(st.integers(2, 8))
    level = st.integers(0, 3)
    rows = draw(
        st.lists(
            st.lists(level, min_size=classes, max_size=classes), min_size=count, max_size=count
        )
    )
    labels = draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count))
    return torch.tensor(rows) / 4, torch.tensor(labels)


def slow_order(probability_K: Tensor) -> list[int]:
    """Labels from the most probable on, the lower one first where they tie."""
    return sorted(range(len(probability_K)), key=lambda k: (-float(probability_K[k]), k))


@given(answers())
def test_ranks_are_places_in_a_sorted_list(case: tuple[Tensor, Tensor]) -> None:
    probability_NK, label_N = case
    expected = [
        slow_order(row).index(label)
        for row, label in zip(probability_NK, label_N.tolist(), strict=True)
    ]
    assert ranks(probability_NK, label_N).tolist() == expected


@given(answers())
def test_scores_are_counts_of_a_loop(case: tuple[Tensor, Tensor]) -> None:
    probability_NK, label_N = case
    names = [ClassLabel(id=f"n{k}", name=f"name {k}") for k in range(probability_NK.shape[1])]
    found = score(probability_NK, label_N, 10, names)
    top1, top5, images, pairs = Counter(), Counter(), Counter(), Counter()
    for row, label in zip(probability_NK, label_N.tolist(), strict=True):
        order = slow_order(row)
        images[label] += 1
        top1[label] += order[0] == label
        top5[label] += label in order[:5]
        if order[0] != label:
            pairs[label, order[0]] += 1
    assert (found.views, found.pictures) == (10, len(label_N))
    assert (found.top1, found.top5) == (top1.total(), top5.total())
    assert [(c.id, c.name, c.pictures, c.top1, c.top5) for c in found.classes] == [
        (n.id, n.name, images[k], top1[k], top5[k]) for k, n in enumerate(names)
    ]
    assert [(p.label, p.guess, p.pictures) for p in found.confusions] == [
        (f"n{label}", f"n{guess}", count)
        for (label, guess), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    ]
    dumped = found.model_dump()
    assert dumped["top1_error"] == pytest.approx(1 - top1.total() / len(label_N))
    assert dumped["top5_error"] == pytest.approx(1 - top5.total() / len(label_N))


@given(answers())
def test_calibration_errors_are_those_of_a_loop(case: tuple[Tensor, Tensor]) -> None:
    """Bin by bin: those within its edges, their mean probability and the share that is right."""
    probability_NK, label_N = case
    best = [max(row) for row in probability_NK.tolist()]
    right = [row.argmax() == label for row, label in zip(probability_NK, label_N, strict=True)]
    expected = 0.0
    for number in range(15):
        low, high = number / 15, (number + 1) / 15
        inside = [n for n, p in enumerate(best) if low < p <= high or (p == 0 and number == 0)]
        if inside:
            confidence = sum(best[n] for n in inside) / len(inside)
            accuracy = sum(bool(right[n]) for n in inside) / len(inside)
            expected += len(inside) / len(best) * abs(accuracy - confidence)
    assert calibration_error(probability_NK, label_N) == pytest.approx(expected)
    losses = [
        -math.log(max(row[label], 2**-126))
        for row, label in zip(probability_NK.tolist(), label_N.tolist(), strict=True)
    ]
    assert likelihood_loss(probability_NK, label_N) == pytest.approx(sum(losses) / len(losses))


def test_calibration_errors_known_by_heart() -> None:
    sure, half = torch.tensor([[1.0, 0.0]] * 4), torch.tensor([[0.5, 0.5]] * 4)
    label_N = torch.tensor([0, 1, 0, 1])
    assert calibration_error(sure, label_N) == 0.5
    assert calibration_error(half, label_N) == 0
    assert likelihood_loss(half, label_N) == pytest.approx(math.log(2))
    broken = torch.full((2, 3), torch.nan)
    assert calibration_error(broken, label_N[:2]) == 0.5
    assert likelihood_loss(broken, label_N[:2]) == pytest.approx(126 * math.log(2))


def test_what_is_not_a_number_is_never_right() -> None:
    broken = torch.tensor([[torch.nan] * 6, [0.5, torch.nan, 0.1, 0.1, 0.1, 0.2]])
    assert ranks(broken, torch.tensor([0, 0])).tolist() == [6, 1]
