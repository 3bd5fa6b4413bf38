"""Order, crops, mirrors and colours: exact for any number of workers, started anywhere."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alexnet.views import centre
from pipeline.order import Cropping, Shard, balanced_order, epoch_order, share, variation

SEEDS = st.integers(0, 2**63 - 1)


@given(
    samples=st.integers(1, 400),
    batch=st.integers(1, 70),
    count=st.integers(1, 9),
    steps=st.integers(0, 5),
)
def test_shares_are_the_epoch_in_order_each_sample_once(
    samples: int, batch: int, count: int, steps: int
) -> None:
    start = min(steps * batch, samples)
    seen = []
    for position in range(start, samples, batch):
        for index in range(count):
            first, stop, rows = share(samples, position, batch, Shard(index, count, None))
            assert 0 <= stop - first <= rows == -(-batch // count)
            seen += range(first, stop)
    assert seen == list(range(start, samples))


@given(samples=st.integers(1, 500), seed=SEEDS, epoch=st.integers(0, 1000))
def test_an_epoch_is_a_permutation_that_repeats(samples: int, seed: int, epoch: int) -> None:
    order = epoch_order(samples, seed, epoch)
    assert sorted(order) == list(range(samples))
    assert np.array_equal(order, epoch_order(samples, seed, epoch))


@given(samples=st.integers(1, 500), seed=SEEDS, epochs=st.lists(st.integers(0, 1000)))
def test_a_fixed_order_is_that_of_the_first_epoch(
    samples: int, seed: int, epochs: list[int]
) -> None:
    first = epoch_order(samples, seed, 0)
    for epoch in epochs:
        assert np.array_equal(epoch_order(samples, seed, epoch, "fixed"), first)


@given(
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=300),
    seed=SEEDS,
    epoch=st.integers(0, 1000),
)
def test_a_balanced_epoch_has_each_class_equally_often(
    labels: list[int], seed: int, epoch: int
) -> None:
    """And each image of a class, where they do not suffice; or none of them twice."""
    label_N = np.array(labels)
    order = balanced_order(label_N, seed, epoch)
    assert len(order) == len(labels)
    drawn_N = np.bincount(order, minlength=len(labels))
    classes = np.unique(label_N)
    per_class = [drawn_N[label_N == label].sum() for label in classes]
    assert max(per_class) - min(per_class) <= 1
    for label in classes:
        times = drawn_N[label_N == label]
        assert times.max() - times.min() <= 1
    assert np.array_equal(order, balanced_order(label_N, seed, epoch))


def test_balanced_epochs_differ_in_their_images_and_in_the_classes_with_one_more() -> None:
    label_N = np.array([0] * 90 + [1] * 10 + [2])
    orders = [balanced_order(label_N, 0, epoch) for epoch in range(30)]
    assert len({tuple(order) for order in orders}) == 30
    assert {np.argmin(np.bincount(label_N[order])) for order in orders} == {0, 1, 2}
    assert set(np.concatenate(orders)) == set(range(101))


def test_another_seed_or_epoch_is_another_order() -> None:
    orders = [tuple(epoch_order(100, *key)) for key in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len(set(orders)) == 4
    fixed = [tuple(epoch_order(100, *key, "fixed")) for key in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert fixed == [orders[0], orders[0], orders[2], orders[2]]


@given(
    seed=SEEDS,
    epoch=st.integers(0, 100),
    start=st.integers(0, 2**40),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
)
def test_variation_depends_on_the_position_alone(
    seed: int, epoch: int, start: int, sizes: list[int]
) -> None:
    whole = variation(start, start + sum(sizes), seed, epoch, margin=32)
    edges = np.cumsum([start, *sizes])
    parts = [variation(int(a), int(b), seed, epoch, margin=32) for a, b in pairwise(edges)]
    for name in whole._fields:
        together = np.concatenate([getattr(part, name) for part in parts])
        assert np.array_equal(getattr(whole, name), together)


def test_crops_reach_every_offset_and_no_other() -> None:
    """33 x 33 offsets at 224 of 256, ends included, each equally often (convdata_jpeg.py)."""
    draws = variation(0, 200_000, seed=1, epoch=2, margin=32)
    for axis in (0, 1):
        counts = np.bincount(draws.crop_N2[:, axis], minlength=33)
        assert len(counts) == 33
        assert np.abs(counts / 200_000 - 1 / 33).max() < 0.003
    assert abs(draws.mirror_N.mean() - 0.5) < 0.005
    pairs = np.corrcoef(np.column_stack([draws.crop_N2, draws.mirror_N, draws.alpha_N3]).T)
    assert np.abs(pairs - np.eye(6)).max() < 0.01


@given(
    seed=SEEDS,
    epoch=st.integers(0, 100),
    start=st.integers(0, 2**40),
    rows=st.integers(1, 50),
    margin=st.integers(0, 800),
    mirrors=st.booleans(),
    cropping=st.sampled_from(["random", "centre"]),
)
def test_what_is_not_random_leaves_the_other_draws(
    seed: int, epoch: int, start: int, rows: int, margin: int, mirrors: bool, cropping: Cropping
) -> None:
    drawn = variation(start, start + rows, seed, epoch, margin)
    found = variation(start, start + rows, seed, epoch, margin, cropping, mirrors)
    crop_N2 = drawn.crop_N2 if cropping == "random" else np.full((rows, 2), centre(margin, 0))
    expected = drawn._replace(crop_N2=crop_N2, mirror_N=drawn.mirror_N * mirrors)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


def test_colour_offsets_have_the_covariance_of_the_paper() -> None:
    """10,000 draws of V (alpha * sqrt(eigenvalue)) against 0.1² V diag(eigenvalue) V'."""
    deviation = np.array([19.72, 37.09, 121.78])  # the author's, in grey levels
    vector = np.array([[0.418, -0.713, -0.564], [-0.817, -0.024, -0.576], [0.397, 0.701, -0.592]])
    alpha = variation(0, 10_000, seed=3, epoch=0, margin=32).alpha_N3
    offset = alpha @ (vector * deviation).T
    expected = 0.01 * vector @ np.diag(deviation**2) @ vector.T
    assert np.abs(offset.mean(axis=0)).max() < 4 * 7.7 / np.sqrt(10_000)
    assert np.abs(np.cov(offset.T) / expected - 1).max() < 0.06
    assert np.abs(alpha / 0.1).max() > 3  # tails
