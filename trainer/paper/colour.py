"""How colourful kernels of conv1 are (Figure 3).

Shapes: N kernels, K rows and columns of a kernel.
"""

import numpy as np

SPLITS = 10_000
"""Random halves that a difference is compared with."""


def colourfulness(kernel_N3KK: np.ndarray) -> np.ndarray:
    """The share of a kernel's energy that is off the grey axis, (N,), 0 to 1.

    A kernel's energy is the sum of its squared weights. That on the grey axis is what remains where
    the three weights of each position are projected on (1, 1, 1). 0 is a kernel that sees lightness
    alone, 1 one that does not see it; random weights have 2/3, for two of three dimensions.
    """
    kernel_N3KK = kernel_N3KK.astype(np.float64)
    energy_N = np.square(kernel_N3KK).sum(axis=(1, 2, 3))
    grey_N = np.square(kernel_N3KK.sum(axis=1)).sum(axis=(1, 2)) / 3
    return np.clip(1 - grey_N / np.maximum(energy_N, np.finfo(np.float64).tiny), 0, 1)


def separation(colour_N: np.ndarray) -> float:
    """How far the mean of the first half, a tower's, is from that of the second, 0 to 1."""
    first, second = np.split(colour_N, 2)
    return abs(float(first.mean() - second.mean()))


def chance(colour_N: np.ndarray) -> float:
    """The share of random halves of the same kernels that are as far apart or further: what the
    separation would be if towers meant nothing. The halves are always the same."""
    random = np.random.default_rng(0)
    found = separation(colour_N)
    as_far = sum(separation(random.permutation(colour_N)) >= found - 1e-12 for _ in range(SPLITS))
    return (as_far + 1) / (SPLITS + 1)
