"""DALI's batches against Pillow and numpy on the same samples."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.batches import Batch, Decoding, train_batches, whole_batches
from pipeline.dataset import Dataset
from pipeline.order import Shard, epoch_order, variation

CROP, BATCH, SEED = 112, 24, 5
DECODING = Decoding(threads=1)


@pytest.fixture(scope="module")
def opened(dataset: Path) -> Dataset:
    return Dataset(dataset)


def batches(
    dataset: Dataset, index: int = 0, count: int = 1, epoch: int = 0, start: int = 0
) -> list[Batch]:
    return list(
        train_batches(
            dataset,
            Shard(index, count, None),
            DECODING,
            seed=SEED,
            epoch=epoch,
            start=start,
            batch=BATCH,
            crop=CROP,
        )
    )


def decoded(dataset: Dataset, sample: int) -> np.ndarray:
    """Pillow's pixels of a training picture, (128, 128, 3)."""
    return np.asarray(Image.open(io.BytesIO(dataset.train.jpeg(sample).tobytes())))


def test_a_batch_is_what_pillow_and_numpy_make_of_it(opened: Dataset) -> None:
    """Crop, mirror, colour and mean, each written out; the decoded crop to the last bit."""
    order = epoch_order(len(opened.train), SEED, 3)
    colour = opened.manifest.colour
    vector, deviation = np.array(colour.eigenvectors), np.sqrt(colour.eigenvalues)
    mean = opened.mean_SS3[8:120, 8:120]
    position = 0
    for batch in batches(opened, epoch=3):
        for row in range(BATCH):
            if not batch.real_N[row]:
                continue
            sample = order[position]
            vary = variation(position, position + 1, SEED, 3, margin=128 - CROP)
            y, x = vary.crop_N2[0]
            crop = decoded(opened, sample)[y : y + CROP, x : x + CROP]
            if vary.mirror_N[0]:
                crop = crop[:, ::-1]
            offset = vector @ (vary.alpha_N3[0] * deviation)
            assert batch.sample_N[row] == sample
            assert batch.label_N[row] == opened.train.label(sample)
            found = batch.image_NCHW[row].permute(1, 2, 0).numpy()
            assert np.abs(found - (crop + offset - mean)).max() < 1e-4
            assert np.array_equal((found + mean - offset).round(), crop)
            position += 1
    assert position == len(opened.train)


def test_whole_pictures_are_pillows_to_the_last_bit(opened: Dataset) -> None:
    seen = []
    for batch in whole_batches(opened, "val", Shard(0, 1, None), DECODING, batch=5):
        for row in range(len(batch.real_N)):
            if batch.real_N[row]:
                jpeg = opened.val.jpeg(int(batch.sample_N[row])).tobytes()
                expected = np.asarray(Image.open(io.BytesIO(jpeg)))
                assert np.array_equal(batch.image_NCHW[row].permute(1, 2, 0).numpy(), expected)
                seen.append(int(batch.sample_N[row]))
    assert seen == list(range(len(opened.val)))


def test_channels_last_without_a_copy(opened: Dataset) -> None:
    image = batches(opened)[0].image_NCHW
    assert image.shape == (BATCH, 3, CROP, CROP)
    assert image.dtype == torch.float32
    assert image.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("count", [2, 3])
def test_workers_together_see_what_one_sees(opened: Dataset, count: int) -> None:
    alone = batches(opened)
    shared = [batches(opened, index, count) for index in range(count)]
    for step, whole in enumerate(alone):
        parts = [worker[step] for worker in shared]
        for name in Batch._fields:
            joined = torch.cat([getattr(part, name)[part.real_N] for part in parts])
            assert torch.equal(joined, getattr(whole, name)[whole.real_N]), (step, name)


def test_started_in_the_middle_the_rest_is_the_same(opened: Dataset) -> None:
    whole, rest = batches(opened), batches(opened, start=2 * BATCH)
    assert len(rest) == len(whole) - 2
    for batch, expected in zip(rest, whole[2:], strict=True):
        assert all(map(torch.equal, batch, expected))


def test_another_epoch_draws_other_pictures(opened: Dataset) -> None:
    first, second = batches(opened)[0], batches(opened, epoch=1)[0]
    assert not torch.equal(first.sample_N, second.sample_N)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_validation_picture_counts_once(opened: Dataset, count: int) -> None:
    seen = []
    for index in range(count):
        for batch in whole_batches(opened, "val", Shard(index, count, None), DECODING, batch=8):
            seen += batch.sample_N[batch.real_N].tolist()
    assert sorted(seen) == list(range(len(opened.val)))
