"""Confident learning, against the rule written out and on labels that are known to be wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.report import suspects as module
from trainer.evaluation.report.suspects import Suspect, suspects, thresholds


def slow(probability_NK: np.ndarray, label_N: np.ndarray) -> list[Suspect]:
    classes = range(probability_NK.shape[1])
    threshold = {}
    for label in classes:
        own = [p[label] for p, given in zip(probability_NK, label_N, strict=True) if given == label]
        threshold[label] = sum(own) / len(own) if own else float("inf")
    found = []
    for sample, (p, label) in enumerate(zip(probability_NK, label_N, strict=True)):
        sure = [other for other in classes if p[other] >= threshold[other]]
        if p[label] < threshold[label] and sure:
            other = max(sure, key=lambda each: (p[each], -each))
            if p[other] > p[label]:
                found.append(Suspect(sample, int(label), other, p[label], p[other]))
    return sorted(found, key=lambda s: s.of_label - s.probability)


@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_the_rule_written_out(images: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    probability_NK = random.dirichlet(np.full(classes, 0.5), images)
    label_N = random.integers(0, classes, images)  # not of every class where there are few
    found = suspects(probability_NK, label_N)
    expected = slow(probability_NK, label_N)
    assert (found.total, found.images) == (len(expected), images)
    assert found.first(images) == expected
    assert found.first(2) == expected[:2]


def test_planted_labels_are_found_in_any_number_of_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    truth_N = random.integers(0, 5, 3000)
    logit_NK = random.normal(size=(3000, 5)) + 6 * np.eye(5)[truth_N]
    probability_NK = np.exp(logit_NK) / np.exp(logit_NK).sum(1, keepdims=True)
    label_N = truth_N.copy()
    planted = random.choice(3000, 60, replace=False)
    label_N[planted] = (truth_N[planted] + 1 + random.integers(0, 4, 60)) % 5
    found = suspects(probability_NK, label_N)
    named = {s.sample for s in found.first(3000)}
    assert len(named & set(planted)) >= 50
    assert len(named - set(planted)) <= 60
    assert sum(s.sample in planted for s in found.first(40)) >= 38
    assert all(s.other == truth_N[s.sample] for s in found.first(30))
    monkeypatch.setattr(module, "ROWS", 7)
    again = suspects(probability_NK, label_N)
    assert [s[:3] for s in again.first(3000)] == [s[:3] for s in found.first(3000)]


def test_a_class_without_images_has_no_threshold() -> None:
    probability_NK = np.array([[0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    label_N = np.array([0, 0])
    assert np.isnan(thresholds(probability_NK, label_N)[1:]).all()
    assert suspects(probability_NK, label_N).total == 0
