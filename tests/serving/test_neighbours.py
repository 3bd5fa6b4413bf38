"""Neighbours against every distance written out, and what FAISS cannot open."""

import hashlib
import io
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alexnet import checkpoint
from alexnet.command import UserError
from alexnet.pixels import whole_image
from alexnet.similar import FOLDER, INDEX
from pipeline.dataset import Dataset
from serving.neighbours import Neighbours, search
from trainer.publishing.similar_index import BATCH, make_index


@pytest.fixture(scope="module")
def neighbours(indexed: Path) -> Neighbours:
    found = Neighbours.open(indexed, checkpoint.load(indexed).about)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def feature_PH(indexed: Path, dataset: Path) -> np.ndarray:
    """The last hidden layer of each training image alone, its centre cut by hand."""
    loaded, images = checkpoint.load(indexed), Dataset(dataset).train
    features = []
    for number in range(len(images)):
        image_SS3 = whole_image(images.jpeg(number).tobytes(), 128)
        view_3WW = torch.from_numpy(image_SS3[32:96, 32:96]).permute(2, 0, 1) - loaded.mean_3HW
        with torch.no_grad():
            features.append(loaded.model.features(view_3WW[None])[0].numpy())
    return np.stack(features)


def every_distance(feature_NH: np.ndarray, feature_PH: np.ndarray) -> np.ndarray:
    """(N, P) float64."""
    difference_NPH = feature_NH.astype(np.float64)[:, None] - feature_PH.astype(np.float64)
    return np.sqrt((difference_NPH**2).sum(axis=2))


@settings(max_examples=40)
@given(seed=st.integers(0, 999), asked=st.integers(1, 20), k=st.integers(1, 150))
def test_neighbours_are_those_of_brute_force(
    neighbours: Neighbours, feature_PH: np.ndarray, seed: int, asked: int, k: int
) -> None:
    """Near to training images and far from all."""
    random = np.random.default_rng(seed)
    start_NH = feature_PH[random.integers(0, len(feature_PH), asked)]
    step_N1 = feature_PH.std() * 10.0 ** random.integers(-4, 2, (asked, 1))
    feature_NH = (start_NH + step_N1 * random.standard_normal(start_NH.shape)).astype(np.float32)
    distance_Nk, image_Nk = neighbours.nearest(feature_NH, k)
    all_NP = every_distance(feature_NH, feature_PH)
    assert distance_Nk.shape == image_Nk.shape == (asked, min(k, len(feature_PH)))
    assert (distance_Nk.dtype, image_Nk.dtype) == (np.float32, np.int64)
    tolerance = 1e-5 * np.linalg.norm(feature_PH, axis=1).max()
    own_Nk = np.take_along_axis(all_NP, image_Nk, axis=1)
    np.testing.assert_allclose(distance_Nk, own_Nk, rtol=1e-4, atol=tolerance)
    np.testing.assert_allclose(own_Nk, np.sort(all_NP)[:, : own_Nk.shape[1]], atol=2 * tolerance)
    assert all(len(set(row)) == len(row) for row in image_Nk.tolist())


def test_a_training_image_is_its_own_nearest(
    neighbours: Neighbours, feature_PH: np.ndarray, dataset: Path
) -> None:
    distance_P1, image_P1 = neighbours.nearest(feature_PH, 1)
    assert image_P1[:, 0].tolist() == list(range(len(feature_PH)))
    apart = every_distance(feature_PH[:1], feature_PH[1:]).min()
    assert distance_P1.max() < 1e-4 * apart
    labels = Dataset(dataset).train.label(np.arange(len(feature_PH)))
    assert [neighbours.label(image) for image in range(len(neighbours))] == labels.tolist()


def test_a_batch_is_as_many_single_ones(neighbours: Neighbours, feature_PH: np.ndarray) -> None:
    """So many that FAISS multiplies matrices, where for one it subtracts."""
    feature_NH = np.concatenate([feature_PH, feature_PH * np.float32(1.01), feature_PH])
    assert feature_NH.size > faiss.cvar.distance_compute_blas_threshold
    distance_N6, image_N6 = neighbours.nearest(feature_NH, 6)
    alone = [neighbours.nearest(feature_H[None], 6) for feature_H in feature_NH]
    np.testing.assert_array_equal(distance_N6, np.concatenate([one[0] for one in alone]))
    np.testing.assert_array_equal(image_N6, np.concatenate([one[1] for one in alone]))
    assert distance_N6[: len(feature_PH), 0].max() < 1e-5


def test_lists_that_hold_too_few_say_so(feature_PH: np.ndarray) -> None:
    batches = (feature_PH[start : start + BATCH] for start in range(0, len(feature_PH), BATCH))
    index = make_index("IVF2,Flat", feature_PH.shape[1], len(feature_PH), batches)
    distance_Nk, image_Nk = search(index, feature_PH[:5], len(feature_PH))
    missing_Nk = image_Nk == -1
    assert missing_Nk.any()
    assert np.isinf(distance_Nk[missing_Nk]).all()
    assert np.isfinite(distance_Nk[~missing_Nk]).all()


def test_a_search_takes_as_many_threads_as_torch(
    neighbours: Neighbours, feature_PH: np.ndarray
) -> None:
    """In every thread that asks; each has a number of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(neighbours.nearest, feature_PH, 1).result()
        assert pool.submit(faiss.omp_get_max_threads).result() == 1
    torch.set_num_threads(before)


def test_thumbnails_are_the_images(neighbours: Neighbours, dataset: Path) -> None:
    images = Dataset(dataset).train
    jpegs = [io.BytesIO(images.jpeg(number).tobytes()) for number in range(len(images))]
    small = [Image.open(jpeg).resize((96, 96), Image.Resampling.BOX) for jpeg in jpegs]
    small_PSS3 = np.stack([np.asarray(image, float) for image in small])
    for number in range(len(images)):
        thumbnail = Image.open(io.BytesIO(neighbours.thumbnail(number)))
        assert (thumbnail.format, thumbnail.mode, thumbnail.size) == ("JPEG", "RGB", (96, 96))
        difference_P = np.abs(small_PSS3 - np.asarray(thumbnail)).mean(axis=(1, 2, 3))
        assert difference_P.argmin() == number
        assert difference_P[number] < 8


def test_images_that_are_not_there(neighbours: Neighbours) -> None:
    for number in (-1, len(neighbours)):
        for ask in (neighbours.label, neighbours.thumbnail):
            with pytest.raises(IndexError, match=f"image {number}: the index has 0 to "):
                ask(number)


def test_an_index_of_another_faiss_is_refused(indexed: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(indexed, tmp_path / "copy")
    about, index = copy / FOLDER / "about.json", copy / FOLDER / INDEX
    was = hashlib.sha256(index.read_bytes()).hexdigest()
    index.write_bytes(b"IxXX" + index.read_bytes()[4:])
    now = hashlib.sha256(index.read_bytes()).hexdigest()
    about.write_text(about.read_text().replace(was, now))
    with pytest.raises(
        UserError, match=r"index.faiss: FAISS .* cannot read this file of another version"
    ):
        Neighbours.open(copy, checkpoint.load(copy).about)
