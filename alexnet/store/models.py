"""Published models in a folder or below a URL: what alexnet.checkpoint does, in either place."""

import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from torch import Tensor

from alexnet import checkpoint, similar
from alexnet.calibration import Calibration
from alexnet.checkpoint import ABOUT, POINTER, WEIGHTS, About, Checkpoint
from alexnet.model import AlexNet
from alexnet.store.errors import MissingError, StoreError, TakenError
from alexnet.store.lease import held
from alexnet.store.mirror import INDEX_ABOUT, Mirror
from alexnet.store.store import Store, Tagged
from alexnet.store.url import Place, StoreURL


def local(model: Place) -> Path:
    """The folder of a published model; of one below a URL the folder of its step's copy in the
    cache, fetched and verified. Raises UserError."""
    return model if isinstance(model, Path) else Mirror(model).refresh()


def load(model: Place) -> Checkpoint:
    """`checkpoint.load`. Raises UserError."""
    return checkpoint.load(local(model))


def pinned(model: Place) -> Place:
    """The step that `model` means now, so that all processes read the same. Raises UserError."""
    if isinstance(model, Path):
        return checkpoint.current(model).absolute()
    step = Mirror(model).look().step
    return model / step if step else model


def read_about(model: Place) -> About:
    """What is known of the model at models/NAME or models/NAME/STEP. Raises UserError."""
    if isinstance(model, Path):
        return checkpoint.read_about(checkpoint.current(model))
    return Mirror(model).about()


def is_published(model: Place) -> bool:
    """Whether models/NAME has a model; of one whose publication was interrupted it has none."""
    if isinstance(model, Path):
        return (model / POINTER).exists()
    return Store(model).tag(POINTER) is not None


def save(
    model: AlexNet,
    mean_3HW: Tensor,
    about: About,
    models: Place,
    whole_mean_3SS: Tensor | None = None,
) -> Place:
    """`checkpoint.save`; returns the step's folder or URL."""
    if isinstance(models, Path):
        return checkpoint.save(model, mean_3HW, about, models, whole_mean_3SS)
    with tempfile.TemporaryDirectory(prefix="alexnet.") as folder:
        step = checkpoint.save(model, mean_3HW, about, Path(folder), whole_mean_3SS)
        return upload(step, models)


def upload(step: Path, models: StoreURL) -> StoreURL:
    """Publish what is in models/NAME/STEP on disk below the URL `models`, and point NAME at it;
    returns the step's URL.

    The weights come first, the pointer last, and only where nobody else has pointed elsewhere
    meanwhile: a reader finds the old model or the new one. Raises CheckpointError for other weights
    of the same name and step, and StoreError.
    """
    about = checkpoint.read_about(step)
    store = Store(models / about.name)
    url = store.place(step.name)
    weights, described = f"{step.name}/{WEIGHTS}", f"{step.name}/{ABOUT}"
    pointed = _found(store, POINTER)
    if published := _found(store, described):
        known = checkpoint.parsed_about(published.data, store.place(described))
        checkpoint.joined(known, about, url)
    if not published or store.tag(weights) is None:
        try:
            store.create(weights, (step / WEIGHTS).read_bytes())
        except TakenError:
            raise checkpoint.other_weights(url) from None
    _describe(
        store, described, lambda known: checkpoint.joined(known, about, url) if known else about
    )
    pointer = checkpoint.pointer(about, step.name)
    try:
        if pointed:
            store.replace(POINTER, pointer, pointed.tag)
        else:
            store.create(POINTER, pointer)
    except TakenError:
        raise StoreError(
            f"{store.place(POINTER)}: somebody else has published {about.name} meanwhile, and that "
            f"is what is served; this model is in {url}; to serve it all the same, publish it again"
        ) from None
    return url


def keep_calibrations(model: Place, calibrations: Sequence[Calibration]) -> None:
    """`checkpoint.calibrate`, of a step."""
    if isinstance(model, Path):
        checkpoint.calibrate(model, calibrations)
        return

    def calibrated(about: About | None) -> About:
        if about is None:
            raise checkpoint.unpublished(model)
        return checkpoint.calibrated(about, (*about.calibrations, *calibrations))

    _describe(Store(model), ABOUT, calibrated)


def add_index(model: StoreURL, build: Callable[[Path], Path]) -> StoreURL:
    """Have `build` index similar images in a copy of the model's step, and publish that index in
    place of one there; returns its URL.

    As on disk a reader finds the old index, none or the new one. Raises UserError.
    """
    step = pinned(model)
    assert isinstance(step, StoreURL)
    with tempfile.TemporaryDirectory(prefix="alexnet.") as folder:
        copy = Path(folder) / step.name
        copy.mkdir()
        for name in (WEIGHTS, ABOUT):
            (copy / name).symlink_to(local(step).absolute() / name)
        _upload_index(build(copy), Store(step))
    return step / similar.FOLDER


def _upload_index(folder: Path, store: Store) -> None:
    busy = f"{store.url}: another process is publishing an index there; wait"
    with held(store, f"{similar.FOLDER}.lease", busy, _say) as lease:
        store.remove([INDEX_ABOUT])
        for name in similar.FILES:
            store.write(f"{similar.FOLDER}/{name}", folder / name)
        if lease.lost:
            raise StoreError(f"{lease.lost}; build the index again")
        store.write(INDEX_ABOUT, folder / ABOUT)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _found(store: Store, name: str) -> Tagged | None:
    with suppress(MissingError):
        return store.read_tagged(name, checkpoint.MAX_ABOUT_BYTES)
    return None


def _describe(store: Store, name: str, change: Callable[[About | None], About]) -> None:
    """Put an about.json in place of what is there, however often others do meanwhile."""
    while True:
        with suppress(TakenError):
            if found := _found(store, name):
                known = checkpoint.parsed_about(found.data, store.place(name))
                store.replace(name, checkpoint.written(change(known)), found.tag)
            else:
                store.create(name, checkpoint.written(change(None)))
            return
