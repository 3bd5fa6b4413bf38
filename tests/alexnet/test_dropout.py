"""Dropout's masks against SplitMix64 written out, and as coins that know nothing of sharing."""

from itertools import pairwise
from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from alexnet.dropout import Draw, Dropout2012, InvertedDropout, words

CPU = torch.device("cpu")
KEYS = [int(key) for key in np.random.SeedSequence(7).generate_state(20, np.uint64)]


def masks(
    draw: Draw, rows: int, units: int, p: float = 0.5, tower: tuple[int, int] = (0, 1)
) -> Tensor:
    """The masks of both layers, (2, rows, units)."""
    dropout = Dropout2012(p)
    dropout.tower = tower
    first_NH, second_NH = dropout.masks(torch.empty(rows, units), draw)
    assert first_NH is not None
    assert second_NH is not None
    return torch.stack([first_NH, second_NH])


def splitmix64(seed: int, number: int) -> list[int]:
    """The first words, as published in C."""
    state, result = seed, []
    for _ in range(number):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        result.append(z ^ (z >> 31))
    return result


def test_words_are_splitmix64s() -> None:
    assert splitmix64(1234567, 2) == [6457827717110365317, 3203168211198807973]
    for key in (0, 1234567, 2**63, 2**64 - 1, *KEYS):
        expected = splitmix64(key, 3 * 11)
        found = words(key, 0, (3, 11), 11, CPU).flatten().tolist()
        assert [word % 2**64 for word in found] == expected
        part = words(key, 13, (2, 5), 11, CPU).tolist()
        assert [word % 2**64 for word in part[0] + part[1]] == expected[13:18] + expected[24:29]


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 1 - 2**-40])
def test_each_layer_compares_its_half_of_a_word(p: float) -> None:
    found = masks(Draw(KEYS[0], first=3), 4, 6, p)
    for index, word in enumerate(splitmix64(KEYS[0], 7 * 6)[3 * 6 :]):
        for layer, half in enumerate((word, word >> 32)):
            value = (half + 2**31) % 2**32  # halves are signed numbers to torch
            assert found[layer].flatten()[index] == (value >= int(p * 2**32)), (index, layer)


def test_rows_and_towers_are_parts_of_the_whole() -> None:
    whole = masks(Draw(KEYS[1], 0), 50, 12)
    for rows in (slice(0, 50), slice(0, 7), slice(20, 33), slice(49, 50)):
        for tower in range(2):
            part = masks(Draw(KEYS[1], rows.start), rows.stop - rows.start, 6, tower=(tower, 2))
            assert torch.equal(part, whole[:, rows, 6 * tower : 6 * tower + 6])


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_as_many_are_dropped_as_p_says(p: float) -> None:
    """Within four standard deviations: of all, and of each layer."""
    for key in KEYS:
        mask_LNH = masks(Draw(key, 0), 128, 1024, p)
        for part in (mask_LNH, *mask_LNH):
            kept = part.double().mean().item()
            assert abs(kept - (1 - p)) < 4 * sqrt(p * (1 - p) / part.numel()), key


def test_neighbours_agree_as_often_as_not() -> None:
    """Rows, units, layers, passes of one key after another and keys that differ by one bit, or by
    steps of the state; within four standard deviations."""
    near = [KEYS[0], KEYS[0] ^ 1, KEYS[0] ^ 2**63, (KEYS[0] + 128 * 1024) % 2**64, *KEYS]
    drawn = [masks(Draw(key, 0), 128, 1024) for key in near]
    pairs = list(pairwise(drawn))
    for mask_LNH in drawn:
        pairs += [
            (mask_LNH[0], mask_LNH[1]),
            (mask_LNH[:, 1:], mask_LNH[:, :-1]),
            (mask_LNH[..., 1:], mask_LNH[..., :-1]),
            (mask_LNH[:, 1:, 1:], mask_LNH[:, :-1, :-1]),
        ]
    for one, other in pairs:
        agree = (one == other).double().mean().item()
        assert abs(agree - 0.5) < 4 * 0.5 / sqrt(one.numel())


def test_without_a_draw_masks_are_those_of_torchs_own_generator() -> None:
    dropout = Dropout2012(0.5)
    x_NH = torch.full((100, 1000), 3.0)
    assert dropout.masks(x_NH, None) == (None, None)
    torch.manual_seed(5)
    expected = 3 * torch.empty(100, 1000).bernoulli_(0.5)
    torch.manual_seed(5)
    assert torch.equal(dropout.train()(x_NH), expected)


@pytest.mark.parametrize("p", [0.0, 0.2, 0.5, 0.9])
def test_inverted_dropout_is_torchs_of_the_same_mask(p: float) -> None:
    """In training 1 / (1 - p) times 2012's, so that its mean is the input; at test the input."""
    inverted, plain = InvertedDropout(p), Dropout2012(p)
    x_NH = torch.rand(400, 500) + 1
    assert torch.equal(inverted.eval()(x_NH), x_NH)
    torch.manual_seed(3)
    found = inverted.train()(x_NH)
    torch.manual_seed(3)
    torch.testing.assert_close(found, torch.nn.Dropout(p)(x_NH))
    assert found.mean().item() == pytest.approx(x_NH.mean().item(), rel=0.02)
    for key in KEYS[:4]:
        mask_NH, _ = plain.masks(x_NH, Draw(key, 0))
        assert torch.equal(mask_NH, inverted.masks(x_NH, Draw(key, 0))[0])
        torch.testing.assert_close(inverted(x_NH, mask_NH), plain(x_NH, mask_NH) / (1 - p))
