"""Whether an answer is one."""

import numpy as np

from alexnet.guess import none_of_these


def test_the_least_probability_is_not_rounded() -> None:
    """As a float32, 0.7 is less than 0.7, and what `evaluate --calibrate` counts says so too."""
    rounded = np.float32(0.7).item()
    assert none_of_these(rounded, 0.7) is True
    assert none_of_these(rounded, rounded) is False
    assert none_of_these(rounded, np.nextafter(rounded, 1).item()) is True
    assert none_of_these(0, 0) is none_of_these(1, 1) is False
    assert none_of_these(0.7, None) is None
