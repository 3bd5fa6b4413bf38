"""Which sample comes when, and how it is cropped, mirrored and coloured: pure functions.

Everything random is a word of Philox, a counter-based generator, looked up by (seed, epoch,
position). Nothing depends on what was drawn before, so any number of workers, starting anywhere,
sees the same images: the whole state of the loader is (seed, epoch, position).
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

Ordering = Literal["random", "fixed"]
"""Whether each epoch has an order of its own."""
Cropping = Literal["random", "centre"]
"""Where the crops of training images are taken."""

# Streams of one key, told apart by the highest word of Philox's 256-bit counter.
_ORDER, _VARIATION, _REPLACEMENT, _BALANCE = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Shard:
    """This worker's share of every global batch, whatever shard files its samples are in. Without
    defaults: a forgotten rank would read everything."""

    index: int
    """Global rank, 0 <= index < count."""
    count: int
    """World size."""
    device_id: int | None
    """GPU of this worker; None decodes on the CPU."""


class Variation(NamedTuple):
    """How N samples of one epoch differ from the images on disk (§4.1)."""

    crop_N2: np.ndarray
    """First row and column of the crop, int64, uniform in 0 .. size - crop inclusive, or those of
    the centre."""
    mirror_N: np.ndarray
    """int32, 0 or 1, each with probability 1/2, or all 0."""
    alpha_N3: np.ndarray
    """float64, Gaussian of deviation 0.1: how much of each principal component of RGB is added."""


def epoch_order(samples: int, seed: int, epoch: int, ordering: Ordering = "random") -> np.ndarray:
    """Position in the epoch -> sample: a permutation, (samples,) uint32. A fixed one is that of
    epoch 0 in every epoch."""
    order_N = np.arange(samples, dtype=np.uint32)
    drawn_in = 0 if ordering == "fixed" else epoch
    np.random.Generator(_philox(seed, drawn_in, 0, _ORDER)).shuffle(order_N)
    return order_N


def balanced_order(label_N: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Position in an epoch of as many samples -> sample, (N,) uint32, each class equally often.

    Classes whose numbers differ by one at most, drawn anew in each epoch, share the positions. Of a
    class with more samples than that some are left out; of one with fewer each comes equally often,
    or once more.
    """
    random = np.random.Generator(_philox(seed, epoch, 0, _BALANCE))
    by_label_N = np.argsort(label_N, kind="stable").astype(np.uint32)
    _, starts = np.unique(label_N[by_label_N], return_index=True)
    members = np.split(by_label_N, starts[1:])
    drawn = []
    for place, label in enumerate(random.permutation(len(members))):
        count = len(label_N) * (place + 1) // len(members) - len(label_N) * place // len(members)
        rounds = -(-count // len(members[label]))
        drawn += [random.permutation(members[label]) for _ in range(rounds)]
        drawn[-1] = drawn[-1][: len(drawn[-1]) - (rounds * len(members[label]) - count)]
    order_N = np.concatenate(drawn)
    random.shuffle(order_N)
    return order_N


def variation(
    start: int,
    stop: int,
    seed: int,
    epoch: int,
    margin: int,
    cropping: Cropping = "random",
    mirrors: bool = True,
) -> Variation:
    """Crops, mirrors and colours at positions start .. stop-1. `margin` is size - crop, in pixels.

    One counter value a position, four 64-bit words each: 16 bits a coordinate, one bit for the
    mirror, four 32-bit uniforms for three normals. What is not random, as all crops with the
    cropping `centre`, or without `mirrors` all mirrors, leaves the other draws as they are.
    """
    word_N4 = _philox(seed, epoch, start, _VARIATION).random_raw(4 * (stop - start)).reshape(-1, 4)
    half_N8 = word_N4.view(np.uint32)
    row_column_N2 = half_N8[:, :2].astype(np.uint64) * np.uint64(margin + 1) >> np.uint64(32)
    radius_N2 = np.sqrt(-2 * np.log((half_N8[:, 2:4] + 0.5) / 2**32))
    angle_N2 = 2 * np.pi * (half_N8[:, 4:6] / 2**32)
    normal_N3 = np.concatenate(
        [radius_N2 * np.cos(angle_N2), radius_N2[:, :1] * np.sin(angle_N2[:, :1])], axis=1
    )
    if cropping == "centre":
        row_column_N2 = np.full_like(row_column_N2, margin // 2)
    return Variation(
        crop_N2=row_column_N2.astype(np.int64),
        mirror_N=(word_N4[:, 3] & np.uint64(mirrors)).astype(np.int32),
        alpha_N3=0.1 * normal_N3,
    )


def replacement(sample: int, attempt: int, samples: int, seed: int, epoch: int) -> int:
    """The sample that takes the place of a damaged one, or of an earlier, damaged replacement."""
    counter = [sample, attempt, 0, _REPLACEMENT]
    return int(np.random.Philox(key=[seed, epoch], counter=counter).random_raw()) % samples


def share(samples: int, start: int, batch: int, shard: Shard) -> tuple[int, int, int]:
    """This shard's part of the global batch that starts at position `start` of `samples`.

    Returns (first, stop, rows): real positions first .. stop-1, and how many rows every batch of
    every shard has; rows beyond the real ones are padding. The shares of all shards, in order of
    rank, are the positions start .. min(start + batch, samples) - 1, each once.
    """
    edge = [start + batch * index // shard.count for index in (shard.index, shard.index + 1)]
    first, stop = (min(position, samples) for position in edge)
    return first, stop, -(-batch // shard.count)


def _philox(seed: int, epoch: int, counter: int, stream: int) -> np.random.Philox:
    return np.random.Philox(key=[seed, epoch], counter=[counter, 0, 0, stream])
