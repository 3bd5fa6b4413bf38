"""DALI's batches against Pillow and numpy on the same samples."""

import io
import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alexnet.views import one_view
from pipeline.batches import Batch, Decoding, train_batches, whole_batches
from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from pipeline.order import Cropping, Shard, epoch_order, variation

CROP, BATCH, SEED = 112, 24, 5
DECODING = Decoding(threads=1)


@pytest.fixture(scope="module")
def opened(dataset: Path) -> Dataset:
    return Dataset(dataset)


def batches(
    dataset: Dataset, index: int = 0, count: int = 1, epoch: int = 0, start: int = 0,
    batch: int = BATCH, decoding: Decoding = DECODING, **options: Any,
) -> list[Batch]:  # fmt: skip
    return list(
        train_batches(
            dataset,
            Shard(index, count, None),
            decoding,
            seed=SEED,
            epoch=epoch,
            start=start,
            batch=batch,
            crop=CROP,
            **options,
        )
    )


@pytest.fixture(scope="module")
def whole_epoch(opened: Dataset) -> Batch:
    """Epoch 0 as one worker sees it, in one batch."""
    (batch,) = batches(opened, batch=len(opened.train))
    return batch


def decoded(dataset: Dataset, sample: int) -> np.ndarray:
    """Pillow's pixels of a training image, (128, 128, 3)."""
    return np.asarray(Image.open(io.BytesIO(dataset.train.jpeg(sample).tobytes())))


@pytest.mark.parametrize("mirrors", [True, False])
@pytest.mark.parametrize("cropping", ["random", "centre"])
def test_a_batch_is_what_pillow_and_numpy_make_of_it(
    opened: Dataset, cropping: Cropping, mirrors: bool
) -> None:
    """Crop, mirror, colour and mean, each written out; the decoded crop to the last bit."""
    order = epoch_order(len(opened.train), SEED, 3)
    colour = opened.manifest.colour
    vector, deviation = np.array(colour.eigenvectors), np.sqrt(colour.eigenvalues)
    mean = opened.mean_SS3[8:120, 8:120]
    position = 0
    for batch in batches(opened, epoch=3, cropping=cropping, mirrors=mirrors):
        for row in range(BATCH):
            if not batch.real_N[row]:
                continue
            sample = order[position]
            vary = variation(position, position + 1, SEED, 3, margin=128 - CROP)
            y, x = vary.crop_N2[0] if cropping == "random" else (8, 8)
            crop = decoded(opened, sample)[y : y + CROP, x : x + CROP]
            if mirrors and vary.mirror_N[0]:
                crop = crop[:, ::-1]
            offset = vector @ (vary.alpha_N3[0] * deviation)
            assert batch.sample_N[row] == sample
            assert batch.label_N[row] == opened.train.label(sample)
            found = batch.image_NCHW[row].permute(1, 2, 0).numpy()
            assert np.abs(found - (crop + offset - mean)).max() < 1e-4
            assert np.array_equal((found + mean - offset).round(), crop)
            position += 1
    assert position == len(opened.train)


def test_whole_images_are_pillows_to_the_last_bit(opened: Dataset) -> None:
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


@pytest.mark.parametrize("crop", [1, 64, 97, 111, 127, 128])
def test_the_centre_is_that_of_one_view(opened: Dataset, crop: int) -> None:
    """For margins that are even, odd and none."""
    size = len(opened.train)
    (batch,) = train_batches(
        opened, Shard(0, 1, None), DECODING, seed=SEED, epoch=0, start=0, batch=size, crop=crop,
        cropping="centre", mirrors=False, output="uint8",
    )  # fmt: skip
    for row in range(0, size, 9):
        whole = torch.tensor(decoded(opened, int(batch.sample_N[row]))).permute(2, 0, 1)[None]
        assert torch.equal(batch.image_NCHW[row], one_view(whole, crop)[0, 0])


@given(count=st.integers(1, 5), batch=st.integers(1, 60), start=st.integers(0, 107))
@settings(max_examples=15)
def test_any_number_of_workers_from_any_position_sees_the_same(
    opened: Dataset, whole_epoch: Batch, count: int, batch: int, start: int
) -> None:
    """Pixels, labels and order are those that one worker sees from the start."""
    workers = [batches(opened, index, count, start=start, batch=batch) for index in range(count)]
    position = start
    for parts in zip(*workers, strict=True):  # every worker takes as many steps
        for part in parts:
            real = int(part.real_N.sum())
            for name in Batch._fields:
                expected = getattr(whole_epoch, name)[position : position + real]
                assert torch.equal(getattr(part, name)[part.real_N], expected), (position, name)
            position += real
    assert position == len(opened.train)


def test_another_epoch_draws_other_images(opened: Dataset) -> None:
    first, second = batches(opened)[0], batches(opened, epoch=1)[0]
    assert not torch.equal(first.sample_N, second.sample_N)


@given(
    count=st.integers(1, 5),
    batch=st.integers(1, 60),
    start=st.integers(0, 107),
    epoch=st.integers(1, 9),
)
@settings(max_examples=8)
def test_a_fixed_order_has_the_same_images_in_each_epoch_with_other_draws(
    opened: Dataset, whole_epoch: Batch, count: int, batch: int, start: int, epoch: int
) -> None:
    """For any number of workers, from any position."""
    (alone,) = batches(opened, epoch=epoch, batch=len(opened.train), ordering="fixed")
    assert torch.equal(alone.sample_N, whole_epoch.sample_N)
    assert torch.equal(alone.label_N, whole_epoch.label_N)
    assert not torch.equal(alone.image_NCHW, whole_epoch.image_NCHW)
    workers = [
        batches(opened, index, count, epoch=epoch, start=start, batch=batch, ordering="fixed")
        for index in range(count)
    ]
    position = start
    for parts in zip(*workers, strict=True):
        for part in parts:
            real = int(part.real_N.sum())
            for name in Batch._fields:
                expected = getattr(alone, name)[position : position + real]
                assert torch.equal(getattr(part, name)[part.real_N], expected), (position, name)
            position += real
    assert position == len(opened.train)


@given(index=st.integers(0, 1), batch=st.integers(1, 60), start=st.integers(0, 107))
@settings(max_examples=5)
def test_epochs_in_a_row_are_those_that_are_begun_anew(
    opened: Dataset, index: int, batch: int, start: int
) -> None:
    """Also where the colour noise ends on the way."""
    found = batches(
        opened, index, 2, epoch=3, epochs=3, start=start, batch=batch, colour_until=4
    )  # fmt: skip
    expected = [
        part
        for epoch in (3, 4, 5)
        for part in batches(
            opened, index, 2, epoch=epoch, start=start if epoch == 3 else 0, batch=batch,
            colour_until=4,
        )
    ]  # fmt: skip
    for part, same in zip(found, expected, strict=True):
        assert all(map(torch.equal, part, same))


@given(count=st.integers(1, 14), batch=st.integers(1, 30))
@settings(max_examples=15)
def test_each_validation_image_counts_once(opened: Dataset, count: int, batch: int) -> None:
    seen = []
    for index in range(count):
        for part in whole_batches(opened, "val", Shard(index, count, None), DECODING, batch=batch):
            seen += part.sample_N[part.real_N].tolist()
    assert sorted(seen) == list(range(len(opened.val)))


@given(count=st.integers(1, 3), batch=st.integers(1, 30))
@settings(max_examples=5)
def test_passes_in_a_row_are_those_that_are_begun_anew(
    opened: Dataset, count: int, batch: int
) -> None:
    shard = Shard(count - 1, count, None)
    anew = list(whole_batches(opened, "val", shard, DECODING, batch=batch))
    thrice = list(whole_batches(opened, "val", shard, DECODING, batch=batch, passes=3))
    endless = whole_batches(opened, "val", shard, DECODING, batch=batch, passes=None)
    for part, same, again in zip(thrice, 3 * anew, islice(endless, 3 * len(anew)), strict=True):
        assert all(map(torch.equal, part, same))
        assert all(map(torch.equal, again, same))
    assert next(endless)


def test_outputs_differ_in_type_and_mean_alone(opened: Dataset, whole_epoch: Batch) -> None:
    size = len(opened.train)
    (half,) = batches(opened, batch=size, output="float16")
    assert half.image_NCHW.dtype == torch.float16
    rounded = whole_epoch.image_NCHW.half()
    torch.testing.assert_close(half.image_NCHW, rounded, atol=0, rtol=2**-10)  # ties differ

    (channel,) = batches(opened, batch=size, mean="channel")
    change = torch.from_numpy(opened.mean_SS3[8:120, 8:120] - opened.mean_image("channel")[0, 0])
    expected = whole_epoch.image_NCHW + change.permute(2, 0, 1)
    torch.testing.assert_close(channel.image_NCHW, expected, atol=1e-4, rtol=0)

    (raw,) = batches(opened, batch=size, output="uint8")
    assert raw.image_NCHW.dtype == torch.uint8
    (plain,) = batches(opened, batch=size, colour_until=0)
    mean_3HW = torch.from_numpy(opened.mean_SS3[8:120, 8:120]).permute(2, 0, 1)
    torch.testing.assert_close(plain.image_NCHW, raw.image_NCHW - mean_3HW, atol=1e-4, rtol=0)
    order = epoch_order(size, SEED, 0)
    vary = variation(0, size, SEED, 0, margin=128 - CROP)
    for row in range(0, size, 9):
        y, x = vary.crop_N2[row]
        crop = decoded(opened, order[row])[y : y + CROP, x : x + CROP]
        crop = crop[:, ::-1] if vary.mirror_N[row] else crop
        assert np.array_equal(raw.image_NCHW[row].permute(1, 2, 0).numpy(), crop)


class TestDamage:
    """Two training images and one validation image whose bytes are gone from the disk."""

    @pytest.fixture
    def damaged(self, dataset: Path, tmp_path: Path) -> Dataset:
        copy = Dataset(Path(shutil.copytree(dataset, tmp_path / "copy")))
        order = epoch_order(len(copy.train), SEED, 0)
        for split, samples in (("train", order[[30, 31]]), ("val", [4])):
            for sample in samples:
                _, size, offset, _ = copy.split(split).index[sample].tolist()
                with (copy.folder / split / "00000.tar").open("r+b") as shard:
                    shard.seek(offset)
                    shard.write(bytes(size))
        return copy

    def test_error_names_the_place_and_the_iteration_goes_on(
        self, damaged: Dataset, opened: Dataset
    ) -> None:
        found = train_batches(
            damaged, Shard(0, 1, None), DECODING,
            seed=SEED, epoch=0, start=0, batch=BATCH, crop=CROP,
        )  # fmt: skip
        expected = batches(opened)
        assert all(map(torch.equal, next(found), expected[0]))
        with pytest.raises(DatasetError, match=r"train/00000.tar, at byte \d+ .*copy the dataset"):
            next(found)
        for batch in expected[2:]:
            assert all(map(torch.equal, next(found), batch))
        assert next(found, None) is None

    def test_replace_puts_the_same_other_sample_for_any_number_of_workers(
        self, damaged: Dataset, whole_epoch: Batch, caplog: pytest.LogCaptureFixture
    ) -> None:
        replacing = Decoding(threads=1, damage="replace")
        size = len(damaged.train)
        (alone,) = batches(damaged, batch=size, decoding=replacing)
        assert "cannot be decoded and is left out (1 so far)" in caplog.text
        parts = [
            part
            for index in range(3)
            for part in batches(damaged, index, 3, batch=size, decoding=replacing)
        ]
        for name in Batch._fields:
            joined = torch.cat([getattr(part, name)[part.real_N] for part in parts])
            assert torch.equal(joined, getattr(alone, name))
        changed = [30, 31]
        kept = [row for row in range(size) if row not in changed]
        for name in Batch._fields:
            assert torch.equal(getattr(alone, name)[kept], getattr(whole_epoch, name)[kept])
        for row in changed:
            assert alone.sample_N[row] != whole_epoch.sample_N[row]
            assert alone.label_N[row] == damaged.train.label(alone.sample_N[row].numpy())

    def test_damage_is_counted_anew_in_every_epoch(self, damaged: Dataset) -> None:
        found = train_batches(
            damaged, Shard(0, 1, None), Decoding(threads=1, damage="replace"),
            seed=SEED, epoch=0, epochs=2, start=0, batch=54, crop=CROP,
        )  # fmt: skip
        counts = []
        for _ in found:
            counts.append(found.replaced)
        assert counts[1] == counts[3] == 2
        assert counts[2] <= 2

    def test_in_evaluation_it_is_left_out(self, damaged: Dataset, opened: Dataset) -> None:
        one = Shard(0, 1, None)
        with pytest.raises(DatasetError, match=r"val/00000\.tar"):
            list(whole_batches(damaged, "val", one, DECODING, batch=5))
        replacing = Decoding(threads=1, damage="replace")
        parts = list(whole_batches(damaged, "val", one, replacing, batch=5))
        seen = [n for part in parts for n in part.sample_N[part.real_N].tolist()]
        assert seen == [n for n in range(len(opened.val)) if n != 4]

    def test_padding_with_a_damaged_sample_counts_it_once(
        self, damaged: Dataset, opened: Dataset
    ) -> None:
        """Batches are padded with sample 0; here with 48 of it."""
        _, size, offset, _ = damaged.train.index[0].tolist()
        with (damaged.folder / "train" / "00000.tar").open("r+b") as shard:
            shard.seek(offset)
            shard.write(bytes(size))
        found = train_batches(
            damaged, Shard(0, 1, None), Decoding(threads=1, damage="replace"),
            seed=SEED, epoch=0, start=0, batch=52, crop=CROP,
        )  # fmt: skip
        assert sum(int(batch.real_N.sum()) for batch in found) == len(opened.train)
        assert found.replaced == 3

    def test_too_much_damage_is_refused(self, damaged: Dataset) -> None:
        shard = damaged.folder / "train" / "00000.tar"
        content = bytearray(shard.read_bytes())
        for _, size, offset, _ in damaged.train.index[10:40].tolist():
            content[offset : offset + size] = bytes(size)
        shard.write_bytes(content)
        with pytest.raises(DatasetError, match="nor can 5 others of 108, too many to replace"):
            batches(damaged, decoding=Decoding(threads=1, damage="replace"))


def damage_of(kind: str, whole: bytes) -> bytes:
    """A JPEG of the same length, damaged."""
    size = whole.index(b"\xff\xc0") + 5  # rows and columns of a baseline JPEG
    return {
        "zeros in the header": whole[:20] + bytes(200) + whole[220:],
        "no JPEG": b"#" * len(whole),
        "noise in the header": whole[:2] + np.random.default_rng(1).bytes(500) + whole[502:],
        "another size": whole[:size] + bytes([0, 64, 0, 64]) + whole[size + 4 :],
        "unknown marker": whole[:3] + b"\x60" + whole[4:],  # is parsed, but not decoded
    }[kind]


DAMAGE = "zeros in the header", "no JPEG", "noise in the header", "another size", "unknown marker"


def left_out(directory: Path, repetitions: int) -> list[list[int]]:
    """Samples that did not come, of training images and of the same ones as whole images."""
    dataset, one = Dataset(directory), Shard(0, 1, None)
    size, decoding = len(dataset.train), Decoding(threads=8, damage="replace")
    found = []
    for epoch in range(repetitions):
        parts = batches(dataset, epoch=epoch, batch=size, decoding=decoding)
        parts += whole_batches(dataset, "train", one, decoding, batch=size)
        for part in parts:
            seen = part.sample_N[part.real_N].tolist()
            found.append(sorted(set(range(size)).difference(seen)))
    return found


def test_no_kind_of_damage_ends_the_process(dataset: Path, tmp_path: Path) -> None:
    """Several damaged files in a batch that many threads decode, more than there are processors."""
    copy = Dataset(Path(shutil.copytree(dataset, tmp_path / "copy")))
    samples = [0, 1, 20, 50, 90]
    with (copy.folder / "train" / "00000.tar").open("r+b") as shard:
        for sample, kind in zip(samples, DAMAGE, strict=True):
            _, _, offset, _ = copy.train.index[sample].tolist()
            shard.seek(offset)
            shard.write(damage_of(kind, copy.train.jpeg(sample).tobytes()))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        found = process.submit(left_out, copy.folder, 5).result()
    assert found == [samples] * 10


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda shard: shard.unlink(), "No such file or directory; copy the dataset again"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-512]), "the manifest says"),
    ],
    ids=["missing", "cut short"],
)
def test_a_shard_that_is_not_whole(
    dataset: Path, tmp_path: Path, change: Callable[[Path], object], text: str
) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    change(copy / "train" / "00000.tar")
    with pytest.raises(DatasetError, match=rf"train/00000.tar: .*{text}"):
        batches(Dataset(copy))
