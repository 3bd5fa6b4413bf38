"""alexnet index: a model's training pictures to an index of nearest neighbours."""

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import faiss
import numpy as np
import torch

from alexnet import atomic, checkpoint
from alexnet.checkpoint import About, Checkpoint
from alexnet.command import UserError
from alexnet.pixels import PACKED
from alexnet.predictor import centre_features
from serving.neighbours import FILES, FOLDER, INDEX, LABELS, AboutNeighbours
from serving.packed_images import PackedImages
from serving.thumbnails import ThumbnailWriter, shrunk

BATCH = 64
SAMPLE = 2500 * BATCH
"""Pictures that an index learns its lists from: 39 for each of 4,096, fewer than which FAISS warns
of. 2.6 GB of 4,096 units."""
PROBES = 1 / 16
"""Share of an index's lists that a search looks into."""


def build(model: Path, dataset: Path, factory: str = "Flat") -> Path:
    """Index the training pictures of `dataset` under `model`'s step, in place of an index there.

    Returns its directory. `factory` is a kind of index in FAISS's words. A reader finds the old
    index, none or the new one, never a part. Raises UserError: the dataset is damaged or does not
    fit the model, FAISS cannot make such an index, the disk is full, another process builds there.
    """
    step = checkpoint.current(model)
    loaded = checkpoint.load(step)
    pictures = PackedImages(dataset, loaded.about)
    for mismatch in _mismatches(pictures, loaded.about):
        print(f"warning: {mismatch}", file=sys.stderr)
    with _locked(step) as partial:
        folder = partial / FOLDER
        folder.mkdir()
        _fill(folder, loaded, pictures, factory)
        if (step / FOLDER).exists():
            (step / FOLDER).rename(partial / "old")
        folder.rename(step / FOLDER)
    return step / FOLDER


def make_index(
    factory: str, units: int, pictures: int, batches: Iterator[np.ndarray]
) -> faiss.Index:
    """A FAISS index of the last hidden layers of all pictures.

    They come in batches (BATCH, units) float32; besides the index only SAMPLE of them are ever in
    memory. Raises UserError.
    """
    faiss.omp_set_num_threads(torch.get_num_threads())
    named = f"--factory {factory}", "see `alexnet index --help`"
    with _faiss_errors(*named):
        index = faiss.index_factory(units, factory)
    _reserve(index, pictures)
    # A packed dataset's order is random: its first pictures are a fair sample.
    sample = min(pictures, BATCH if index.is_trained else SAMPLE)
    sample_PH = np.empty((sample, units), np.float32)
    for start, feature_NH in zip(range(0, sample, BATCH), batches, strict=False):
        sample_PH[start : start + BATCH] = feature_NH
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


def _reserve(index: faiss.Index, pictures: int) -> None:
    """Memory for all: a vector that grows is copied, and there twice meanwhile."""
    if isinstance(index, faiss.IndexFlatCodes) and hasattr(index.codes, "owned_data"):
        codes = index.codes.owned_data
        codes.resize(pictures * index.code_size)
        codes.resize(0)


def _fill(folder: Path, loaded: Checkpoint, pictures: PackedImages, factory: str) -> None:
    """Write every file of an index, about.json last."""
    units = loaded.model.fc7.out_features
    with ThumbnailWriter(folder) as thumbnails:
        batches = features(loaded, pictures, thumbnails)
        index = make_index(factory, units, len(pictures), batches)
    with _faiss_errors(str(folder / INDEX), "free some disk space and run the same command again"):
        faiss.write_index(index, str(folder / INDEX))
    atomic.write_array(folder / LABELS, pictures.label_P)
    about = AboutNeighbours(
        weights_sha256=loaded.about.weights_sha256,
        dataset=pictures.digest,
        pictures=len(pictures),
        factory=factory,
        built_at=checkpoint.now(),
        sha256={name: _synced_digest(folder / name) for name in FILES},
    )
    atomic.write(folder / "about.json", about.model_dump_json(indent=2).encode())


def features(
    loaded: Checkpoint, pictures: PackedImages, thumbnails: ThumbnailWriter
) -> Iterator[np.ndarray]:
    """The last hidden layer of all pictures, in order, in batches (N, H) float32."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = loaded.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean_3WW = loaded.mean_3HW.to(device)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for numbers in _batches(len(pictures)):
            images = list(pool.map(pictures.image, numbers))
            for jpeg in pool.map(shrunk, images):
                thumbnails.add(jpeg)
            picture_NSS3 = torch.from_numpy(np.stack([np.asarray(i) for i in images])).to(device)
            yield centre_features(model, picture_NSS3.permute(0, 3, 1, 2), mean_3WW).cpu().numpy()


def _batches(total: int) -> Iterator[range]:
    """0 to `total` in batches. Says how far the work is: a line that moves, or one each tenth."""
    start, terminal = time.monotonic(), sys.stdout.isatty()
    for first in range(0, total, BATCH):
        done = min(first + BATCH, total)
        yield range(first, done)
        if not terminal and 10 * done // total == 10 * first // total:
            continue
        rate = done / (time.monotonic() - start)
        print(
            f"index: {done:,} of {total:,} images, {rate:,.0f} images/s, "
            f"{(total - done) / rate:,.0f} s left",
            end="\r" if terminal and done < total else "\n",
            flush=True,
        )


def _mismatches(pictures: PackedImages, about: About) -> Iterator[str]:
    """What is odd about these pictures for this model, and no reason to refuse them."""
    if pictures.digest != about.dataset:
        trained_on = f"the dataset {about.dataset[:12]}…" if about.dataset else "an unknown dataset"
        yield (
            f"{about.name} was trained on {trained_on}, but this dataset is "
            f"{pictures.digest[:12]}…; the model may never have seen the images of this index"
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


def _synced_digest(path: Path) -> str:
    """SHA-256 of a file that has reached the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
