"""How colourful kernels are, and how far apart towers."""

import numpy as np
import pytest

from trainer.paper.colour import chance, colourfulness, separation


def kernel(red: float, green: float, blue: float) -> np.ndarray:
    """The same pattern in each channel, by these factors."""
    pattern_KK = np.random.default_rng(1).normal(size=(11, 11))
    return np.array([red, green, blue])[:, None, None] * pattern_KK


def test_grey_has_none_and_what_does_not_see_lightness_is_all_colour() -> None:
    kernels = np.stack([kernel(1, 1, 1), kernel(1, -1, 0), kernel(1, 0, 0), np.zeros((3, 11, 11))])
    assert colourfulness(kernels) == pytest.approx([0, 1, 2 / 3, 1])


def test_it_is_the_energy_after_a_turn_that_brings_grey_to_an_axis() -> None:
    kernel_N3KK = np.random.default_rng(0).normal(size=(50, 3, 11, 11))
    grey_and_two, _ = np.linalg.qr(np.array([[1, 1, 0], [1, 0, 1], [1, 0, 0]], float))
    turned = np.einsum("ca,nchw->nahw", grey_and_two, kernel_N3KK)
    energy = np.square(turned).sum(axis=(2, 3))
    found = colourfulness(kernel_N3KK)
    np.testing.assert_allclose(found, energy[:, 1:].sum(1) / energy.sum(1))
    np.testing.assert_allclose(colourfulness(1e-3 * kernel_N3KK), found)
    assert found.mean() == pytest.approx(2 / 3, abs=0.02)  # random weights


def test_towers_of_grey_and_of_colour_are_apart_as_chance_does_not_have_them() -> None:
    apart = np.repeat([0.1, 0.9], 24)
    mixed = np.tile([0.1, 0.9], 24)
    assert separation(apart) == separation(apart[::-1]) == pytest.approx(0.8)
    assert separation(mixed) == pytest.approx(0)
    assert chance(apart) < 0.001
    assert chance(mixed) == 1
