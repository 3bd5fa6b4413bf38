"""The benchmark's comparison of networks, and the arithmetic of it."""

import pytest
import torch

from alexnet.model import AlexNetConfig
from tests.benchmarks.step.contenders import flops_per_image
from tests.benchmarks.step.parity import compare, in_common, widest

TINY = AlexNetConfig(width=0.1, crop=64, classes=12)


def test_the_five_best_in_common() -> None:
    a_NK = torch.tensor([[9.0, 8, 7, 6, 5, 1, 0], [9, 8, 7, 6, 5, 1, 0]])
    b_NK = torch.tensor([[5.0, 6, 7, 8, 9, 1, 0], [9, 8, 7, 6, 0, 1, 5]])
    assert in_common(a_NK, b_NK) == 0.9
    assert in_common(a_NK[:, :3], b_NK[:, :3]) == 1


def test_the_widest_difference_is_relative() -> None:
    assert widest([(1.0, 1.0), (2.2, 2.0), (99, 100)]) == pytest.approx(0.1)
    assert widest([]) == 0


def test_both_learn_alike() -> None:
    parity = compare(TINY, steps=5, batch=8)
    assert parity.steps == 5
    assert 0 < parity.float32 < 1e-4 * parity.logit
    assert parity.float32 < parity.bfloat16 < 0.1 * parity.logit
    assert parity.loss < 1e-4


def test_flops_are_those_of_the_paper_s_network() -> None:
    """724.4 million multiplications forward; three times in a step, less 105.4 of conv1."""
    forward, step = (flops_per_image(AlexNetConfig(), step) for step in (False, True))
    assert forward == pytest.approx(2 * 724.4e6, rel=1e-4)
    assert step == pytest.approx(2 * (3 * 724.4e6 - 105.4e6), rel=1e-4)
