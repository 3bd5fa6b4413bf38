"""A published model and its dataset -> an index of the training images, to find similar ones."""

import fcntl
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import faiss
import numpy as np
import torch
from PIL import Image

from alexnet import atomic, checkpoint, similar
from alexnet.checkpoint import About, Checkpoint
from alexnet.command import UserError
from alexnet.pixels import PACKED, ImageError, to_square
from alexnet.predictor import centre_features, default_device
from alexnet.similar import FOLDER, INDEX, LABELS
from alexnet.store.models import add_index
from alexnet.store.url import Place
from alexnet.thumbnails import ThumbnailWriter, shrunk
from pipeline.dataset import Dataset
from pipeline.manifest import DatasetError
from pipeline.progress import ProgressBar
from pipeline.split import Damage, Split, too_damaged

BATCH = 64
PER_CENTROID = 39
"""Images for each list that an index learns; FAISS warns of fewer."""
SAMPLE = 2500 * BATCH
"""Images that an index learns its lists from: enough for 4,096. 2.6 GB of 4,096 units."""
PROBES = 1 / 16
"""Share of an index's lists that a search looks into."""


def publish_index(model: Place, data: Place, factory: str, damage: Damage) -> Place:
    """`build` for a model in a folder or below a URL; returns the index's folder or URL."""
    if isinstance(model, Path):
        return build(model, data, factory, damage)
    return add_index(model, lambda step: build(step, data, factory, damage))


def build(model: Path, data: Place, factory: str = "Flat", damage: Damage = "error") -> Path:
    """Index the training images of the dataset `data` under `model`'s step, in place of an index
    there.

    Returns its directory. `factory` is a kind of index in FAISS's words. Images that cannot be
    decoded are an error, or with the `damage` "replace" left out and said on stderr. A reader finds
    the old index, none or the new one, never a part. Raises UserError: the dataset is damaged or
    does not fit the model, FAISS cannot make such an index, the disk is full, another process
    builds there.
    """
    step = checkpoint.current(model)
    loaded = checkpoint.load(step)
    dataset = Dataset(data)
    _check(dataset, loaded.about)
    for mismatch in _mismatches(dataset, loaded.about):
        print(f"warning: {mismatch}", file=sys.stderr)
    with _locked(step) as partial:
        folder = partial / FOLDER
        folder.mkdir()
        _fill(folder, loaded, dataset, factory, damage)
        if (step / FOLDER).exists():
            (step / FOLDER).rename(partial / "old")
        folder.rename(step / FOLDER)
    return step / FOLDER


def make_index(factory: str, units: int, images: int, batches: Iterator[np.ndarray]) -> faiss.Index:
    """A FAISS index of the last hidden layers of so many images, or fewer.

    They come in batches (BATCH, units) float32; besides the index only SAMPLE of them are ever in
    memory. Raises UserError.
    """
    faiss.omp_set_num_threads(torch.get_num_threads())
    named = f"--factory {factory}", "see `alexnet index --help`"
    with _faiss_errors(*named):
        index = faiss.index_factory(units, factory)
    _check_enough(index, factory, images)
    _reserve(index, images)
    # A packed dataset's order is random: its first images are a fair sample.
    sample = min(images, BATCH if index.is_trained else SAMPLE)
    sample_PH = np.empty((sample, units), np.float32)
    filled = 0
    for start, feature_NH in zip(range(0, sample, BATCH), batches, strict=False):
        filled = start + len(feature_NH)
        sample_PH[start:filled] = feature_NH
    sample_PH = sample_PH[:filled]
    with _faiss_errors(*named):
        index.train(sample_PH)
        index.add(sample_PH)
    del sample_PH
    for feature_NH in batches:
        with _faiss_errors(*named):
            index.add(feature_NH)
    if lists := faiss.try_extract_index_ivf(index):
        lists.nprobe = max(1, round(PROBES * lists.nlist))
    return index


def _check_enough(index: faiss.Index, factory: str, images: int) -> None:
    """Raises UserError where an index learns so many centroids that FAISS would warn of too few
    images, or fail."""
    lists = faiss.try_extract_index_ivf(index)
    inner = index.index if isinstance(index, faiss.IndexPreTransform) else index
    quantizer = getattr(faiss.downcast_index(lists or inner), "pq", None)
    for what, count in (
        ("lists", lists.nlist if lists else 0),
        ("codes of a product quantizer", quantizer.ksub if quantizer else 0),
    ):
        if PER_CENTROID * count > min(images, SAMPLE):
            most = min(images, SAMPLE)
            enough = most // PER_CENTROID
            advice = f"at most {enough:,}, or Flat" if enough else "Flat"
            raise UserError(
                f"--factory {factory}: its {count:,} {what} need {PER_CENTROID} images each, "
                f"{PER_CENTROID * count:,}, but there are {most:,} to learn them from; give "
                f"{advice}, which needs none"
            )


def _reserve(index: faiss.Index, images: int) -> None:
    """Memory for all: a vector that grows is copied, and there twice meanwhile."""
    if isinstance(index, faiss.IndexFlatCodes) and hasattr(index.codes, "owned_data"):
        codes = index.codes.owned_data
        codes.resize(images * index.code_size)
        codes.resize(0)


def _fill(folder: Path, loaded: Checkpoint, dataset: Dataset, factory: str, damage: Damage) -> None:
    """Write every file of an index, about.json last."""
    split, left_out = dataset.train, list[int]()
    units, images = loaded.model.fc7.out_features, len(split)
    with ThumbnailWriter(folder) as thumbnails:
        batches = features(loaded, split, thumbnails, left_out if damage == "replace" else None)
        index = make_index(factory, units, images, batches)
    if left_out:
        print(
            f"warning: {len(left_out):,} of {images:,} images cannot be decoded and are left out; "
            f"the first is {split.place(left_out[0])} (image {left_out[0]})",
            file=sys.stderr,
        )
    with _faiss_errors(str(folder / INDEX), "free some disk space and run the same command again"):
        faiss.write_index(index, str(folder / INDEX))
    whole_P = np.delete(np.arange(images), left_out)
    atomic.write_array(folder / LABELS, split.label(whole_P))
    similar.write_about(folder, loaded.about.weights_sha256, dataset.digest, len(whole_P), factory)


def features(
    loaded: Checkpoint,
    split: Split,
    thumbnails: ThumbnailWriter | None,
    left_out: list[int] | None = None,
) -> Iterator[np.ndarray]:
    """The last hidden layer of all images of a packed split, in order, in batches (BATCH, H)
    float32, the last of which may have fewer rows.

    Decoded and computed as the server does; each also becomes one of the `thumbnails`, where these
    are wanted. Damaged images are left out, and their numbers put into `left_out`. Raises UserError
    where there is no such list, or where they are too many.
    """
    device, size = default_device(), loaded.about.size
    model = loaded.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean_3WW = loaded.mean_3HW.to(device)

    def image(number: int) -> Image.Image | ImageError:
        try:
            return to_square(split.jpeg(number).tobytes(), size, ("JPEG",))
        except ImageError as error:
            return error

    def leave_out(number: int, error: ImageError) -> None:
        place = f"{split.place(number)} (image {number})"
        if left_out is None:
            raise DatasetError(
                f"{place}: {error}; {split.remedy}, or leave it out with --damage replace"
            )
        left_out.append(number)
        if too_damaged(split, len(left_out)):
            raise DatasetError(
                f"{place}: {error}; so are {len(left_out) - 1} others of {len(split):,}, too many "
                f"to leave out; {split.remedy}"
            )

    with (
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
        ProgressBar("index", len(split), "images") as progress,
    ):

        def whole_images() -> Iterator[Image.Image]:
            for first in range(0, len(split), BATCH):
                numbers = range(first, min(first + BATCH, len(split)))
                for number, found in zip(numbers, pool.map(image, numbers), strict=True):
                    if isinstance(found, ImageError):
                        leave_out(number, found)
                    else:
                        yield found
                progress.advance(len(numbers))

        stream = whole_images()
        while images := list(islice(stream, BATCH)):
            if thumbnails:
                for jpeg in pool.map(shrunk, images):
                    thumbnails.add(jpeg)
            image_NSS3 = torch.from_numpy(np.stack([np.asarray(i) for i in images])).to(device)
            yield centre_features(model, image_NSS3.permute(0, 3, 1, 2), mean_3WW).cpu().numpy()


def _check(dataset: Dataset, about: About) -> None:
    """Refuse, with DatasetError, images not packed for the classes and size of the model."""
    path, manifest = dataset.place / "manifest.json", dataset.manifest
    if manifest.original:
        raise DatasetError(
            f"{path}: this dataset lists photographs that were not packed; pack their folder "
            f"(`alexnet pack SOURCE DATASET --size {about.size}`), and index that DATASET"
        )
    if manifest.size != about.size:
        raise DatasetError(
            f"{path}: the images are {manifest.size} x {manifest.size} pixels, but the model "
            f"{about.name} takes {about.size} x {about.size}; pack the source again with "
            f"--size {about.size}"
        )
    here = [label.id for label in manifest.classes]
    known = [label.id for label in about.classes]
    if here != known:
        differ = [*sorted(set(here) ^ set(known)), "their order"][0]
        raise DatasetError(
            f"{path}: its {len(here)} classes are not the {len(known)} classes of the model "
            f"{about.name} (they differ in {differ}); give the dataset it was trained on"
        )


def _mismatches(dataset: Dataset, about: About) -> Iterator[str]:
    """What is odd about these images for this model, and no reason to refuse them."""
    if dataset.digest != about.dataset:
        trained_on = f"the dataset {about.dataset[:12]}…" if about.dataset else "an unknown dataset"
        yield (
            f"{about.name} was trained on {trained_on}, but this dataset is "
            f"{dataset.digest[:12]}…; unless these are the same photographs, packed since, the "
            "model may never have seen the images of this index"
        )
    if about.rule != PACKED:
        yield (
            f"{about.name} resizes photographs by the rule {about.rule.framing}, "
            f"{about.rule.filter}, but this dataset was packed by {PACKED.framing}, "
            f"{PACKED.filter}; a training photograph is found near itself, not at distance 0"
        )


@contextmanager
def _locked(step: Path) -> Iterator[Path]:
    """An empty directory below `step` in which nobody else builds, gone in the end.

    The lock goes with the process, however it ends; what a killed one left is removed.
    """
    partial = step / f".{FOLDER}{atomic.PARTIAL}"
    directory = os.open(step, os.O_RDONLY)
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{step}: another process is building an index there; wait") from None
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            yield partial
            os.fsync(directory)
        except OSError as error:
            raise UserError(
                f"{step}: the index cannot be written ({error.strerror}); its partial files have "
                "been removed; correct this and run the same command again"
            ) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(directory)


@contextmanager
def _faiss_errors(what: str, remedy: str) -> Iterator[None]:
    """FAISS's errors to ours; of their texts, what stands behind functions, files and lines."""
    try:
        yield
    except RuntimeError as error:
        raise UserError(f"{what}: {str(error).rsplit(': ', 1)[-1]}; {remedy}") from None
