"""What the command line asks for -> a run."""

import sys
from math import ceil
from pathlib import Path
from typing import Any

from alexnet.config import AlexNetConfig
from alexnet.pixels import SIZE
from alexnet.store.models import load, pinned
from alexnet.store.url import Place, StoreURL
from pipeline.dataset import Dataset
from pipeline.destination import RECORDS
from pipeline.pack import pack
from pipeline.photographs import index_photographs
from pipeline.sources import WORDS, open_source, photographs_source
from pipeline.sources.labelled import METADATA
from pipeline.sources.source import MAX_QUARANTINED, VAL_FRACTION
from trainer.arguments import TORCHVISION, Train, is_torchvision
from trainer.loop import towers
from trainer.on_ray.resources import Resources
from trainer.publishing.imports import FOLDED
from trainer.publishing.official import publish_official
from trainer.recipe import Recipe, Start
from trainer.run import Run, RunError

FEW_STEPS = 200
"""What the recipe `finetune` takes at least, which starts from weights that are trained."""


def recipe_changes(options: Train) -> list[tuple[str, Any]]:
    """What the command line changes in the recipe, for `resolve`."""
    names = ("epochs", "stop_after", "batch", "seed", "balance", "mean")
    short = {name: getattr(options, name) for name in names}
    short |= {"schedule.kind": options.schedule, "freeze": options.freeze or None}
    return [change for change in short.items() if change[1] is not None] + list(options.set)


def starting_model(options: Train) -> Start | None:
    """The published model, at its current step, that the run starts from; torchvision's is fetched
    and published first where that has not been done. Its crops are taken from
    images of the size of the packed dataset, else of the size that the model was trained on. Raises
    UserError where there is no whole model, and where the crop does not fit into the images."""
    if options.init_from is None:
        if options.recipe == "finetune":
            raise RunError(
                "--recipe finetune trains a model's weights on; give --init-from MODEL, or "
                "--init-from torchvision, or another recipe"
            )
        if options.freeze:
            raise RunError(
                "--freeze keeps the weights that a run starts with, and without --init-from they "
                "are random; give --init-from MODEL, or leave --freeze out"
            )
        return None
    model = options.init_from
    packed = _is_packed(options.data)
    size = Dataset(options.data).manifest.size if packed else None
    if is_torchvision(model):
        if not (packed or _is_word(options.data) or Path(options.data).is_dir()):
            Dataset(options.data)  # says what is wrong, before anything is fetched
        _check_crop(options.data, size, TORCHVISION, AlexNetConfig().crop, SIZE)
        model = publish_official(TORCHVISION, None, options.models).directory
    elif isinstance(model, Path) and not model.exists() and (known := _known(options, model)):
        raise RunError(f"--init-from {model}: there is no such folder; did you mean {known}?")
    published = pinned(model)
    about = load(published).about
    folded = about.recipe.get("folded") or FOLDED.get(str(about.recipe.get("imported")), {})
    _check_crop(options.data, size, str(published), about.network.crop, about.size)
    if size and size != about.size:
        print(
            f"{options.data}: the images have {size} x {size} pixels, those that {published} was "
            f"trained on {about.size} x {about.size}: things look {size / about.size:.2g} times as "
            f"large to it; better pack the photographs with --size {about.size}",
            file=sys.stderr,
        )
    return Start(published, about.network, size or about.size, folded)


def _known(options: Train, model: Path) -> Path | None:
    """The model on disk of the name that a path ends in."""
    known = options.models / model.name
    return known if isinstance(known, Path) and known.exists() else None


def _check_crop(data: Place, size: int | None, model: str, crop: int, trained_on: int) -> None:
    """Raises RunError where packed images of this size are smaller than the model's crops."""
    if size and size < crop:
        raise RunError(
            f"{data}: the images have {size} x {size} pixels, but the network of {model} sees "
            f"{crop} x {crop}; pack them with --size {trained_on}, as those it was trained on"
        )


def find_dataset(options: Train, size: int, batch: int) -> Dataset | None:
    """A packed dataset, or the photographs of a folder as one; None for a word whose dataset has
    not been packed. Raises RunError where the images have not `size` rows and columns."""
    data = options.data
    if _is_word(data):
        data = _packed(options, size)
        if not _is_packed(data):
            return None
    if isinstance(data, StoreURL) or not _is_of_photographs(data):
        dataset = Dataset(data)
    else:
        if options.index:
            raise _needs_packing(data, size)
        if isinstance(options.runs, StoreURL):
            raise RunError(
                f"{data}: runs in object storage need a packed dataset; pack it: `alexnet pack "
                f"{data} DATASET --size {size}` and train on that DATASET"
            )
        listing = options.runs / options.name / "photographs"
        if (listing / "manifest.json").exists():  # a run goes on, whatever the folder now holds
            dataset = Dataset(listing)
        else:
            source = photographs_source(data, VAL_FRACTION, {})
            dataset = index_photographs(source, listing, size, options.damage, batch)
    if dataset.manifest.size != size:
        raise RunError(
            f"{dataset.place}: the images have {dataset.manifest.size} x "
            f"{dataset.manifest.size} pixels, but the recipe {options.recipe} takes {size}; "
            f"pack them with --size {size}"
        )
    if options.index and dataset.manifest.original:
        raise _needs_packing(data, size)
    return dataset


def _is_packed(data: Place) -> bool:
    return isinstance(data, StoreURL) or (data / "manifest.json").exists()


def _is_of_photographs(folder: Path) -> bool:
    """Whether there are photographs in the folder, which is no dataset, whole or begun."""
    if any((folder / mark).exists() for mark in ("manifest.json", RECORDS)):
        return False
    return any(folder.glob("*/")) or any((folder / name).exists() for name in METADATA)


def _needs_packing(data: Place, size: int) -> RunError:
    return RunError(
        f"--index needs a packed dataset; pack {data}: `alexnet pack {data} DATASET --size {size}` "
        "and train on that DATASET, or leave --index out"
    )


def pack_dataset(options: Train, size: int) -> Dataset:
    """The dataset of a word, packed now. Raises UserError."""
    packed = _packed(options, size)
    pack(open_source(str(options.data), VAL_FRACTION, None), packed, size, MAX_QUARANTINED)
    return Dataset(packed)


def make_run(
    options: Train, recipe: Recipe, dataset: Dataset, start: Start | None, resources: Resources
) -> Run:
    """A run of the recipe, for the classes of the dataset, on what the cluster has. Raises RunError
    where the workers that are asked for do not fit the cluster, the batch or the network."""
    gpu = options.device == "gpu" or (options.device == "auto" and resources.gpus > 0)
    by_itself = max(1, resources.room(gpu) if gpu else len(resources.hosts(gpu)))
    network = recipe.network.model_copy(update={"classes": len(dataset.manifest.classes)})
    steps_an_epoch = ceil(len(dataset.train) / recipe.batch)
    epochs = max(recipe.epochs, ceil(recipe.least_steps / steps_an_epoch))
    run = Run(
        name=options.name,
        recipe=recipe.model_copy(update={"network": network, "epochs": epochs}),
        data=dataset.place.absolute(),
        dataset=dataset.digest,
        runs=options.runs.absolute(),
        workers=options.workers or (by_itself, by_itself),
        gpu=gpu,
        deterministic=options.deterministic,
        parallelism=options.parallelism,
        micro_batch=options.micro_batch,
        save_every=options.save_every,
        keep=options.keep,
        retries=options.retries,
        init_from=start.model if start else None,
        damage=options.damage,
        hw_decoder_load=options.hw_decoder_load,
    )
    _check_workers(run, resources)
    return run


def few_steps(run: Run, images: int) -> str | None:
    """What a user should know of a run from random weights that is over before it has learnt."""
    steps = ceil(images / run.recipe.batch) * run.recipe.epochs
    if run.init_from or steps >= FEW_STEPS:
        return None
    epochs = ceil(run.recipe.epochs * FEW_STEPS / steps)
    return (
        f"{run.name}: {run.recipe.epochs} epochs of {images:,} images are {steps} steps, which "
        f"teach a network little that starts from random weights; --epochs {epochs} makes "
        f"{FEW_STEPS}, and --recipe finetune --init-from torchvision starts from trained ones"
    )


def _is_word(data: Place) -> bool:
    return str(data) in WORDS and not Path(data).exists()


def _packed(options: Train, size: int) -> Path:
    return options.datasets / f"{options.data}-{size}"


def _check_workers(run: Run, resources: Resources) -> None:
    """Refuse what the cluster does not have: Ray would wait for it."""
    fewest, most = run.workers
    room = resources.room(run.gpu)
    if run.parallelism == "towers":
        for workers in run.workers:
            towers.check(run.recipe.network, workers)
        if fewest != most:
            raise RunError(
                "--parallelism towers keeps its number of workers; give --workers one number, "
                "not a range"
            )
        if {*run.recipe.frozen, "conv1"} >= {*run.recipe.network.convolutions, "fc6", "fc7"}:
            raise RunError(
                "--parallelism towers has nothing for the second tower to learn where all layers "
                "but fc8, or conv1 and fc8, are frozen; use --parallelism data"
            )
    if run.gpu and fewest > resources.gpus:
        has, lower = (
            ("none", "") if not resources.gpus else (resources.gpus, "lower --workers, or ")
        )
        raise RunError(
            f"{fewest} GPU(s) asked for, this cluster has {has}; {lower}use --device cpu"
        )
    if run.gpu and fewest > room:
        raise RunError(
            f"{fewest} worker(s) asked for, each with a GPU and a CPU of one machine, but this "
            f"cluster has room for {room}; lower --workers, or use --device cpu"
        )
    if fewest > room:
        raise RunError(
            f"--workers is {fewest}, this cluster has {room} CPUs, and each worker needs one; "
            "lower --workers"
        )
    if most > run.recipe.batch:
        raise RunError(
            f"--workers is {most}, more than the {run.recipe.batch} images of a batch; lower it"
        )
