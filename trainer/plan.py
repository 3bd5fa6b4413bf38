"""What the command line asks for -> a run."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from alexnet.checkpoint import current
from alexnet.model import AlexNet
from pipeline.dataset import Dataset
from pipeline.pack import pack
from pipeline.photographs import index_photographs
from pipeline.shard import RECORDS
from pipeline.sources import WORDS, open_source
from pipeline.sources.folder import folder_source
from pipeline.sources.source import MAX_QUARANTINED, VAL_FRACTION
from trainer.arguments import Train
from trainer.loop import towers
from trainer.loop.state import adopt
from trainer.on_ray.resources import Resources
from trainer.recipe import Recipe, resolve
from trainer.run import Run, RunError, open_run


def planned(options: Train) -> Callable[[Resources], Run]:
    """What makes a run of the options of `train`, once the cluster is known. Either raises
    UserError."""
    recipe = resolve(options.recipe, os.environ, _changes(options))
    dataset = _dataset(options, recipe.size)
    recipe = _fitted(recipe, dataset)
    start = options.init_from and current(options.init_from).absolute()
    if start:
        adopt(AlexNet(recipe.network), start)  # here, where a mistake shows at once

    def plan(resources: Resources) -> Run:
        gpu = options.device == "gpu" or (options.device == "auto" and resources.gpus > 0)
        by_itself = max(1, resources.room(gpu) if gpu else len(resources.hosts(gpu)))
        run = Run(
            name=options.name,
            recipe=recipe,
            data=dataset.directory.absolute(),
            dataset=dataset.digest,
            runs=options.runs.absolute(),
            workers=options.workers or (by_itself, by_itself),
            gpu=gpu,
            parallelism=options.parallelism,
            micro=options.micro_batch,
            save_every_s=options.save_every,
            keep=options.keep,
            retries=options.retries,
            init_from=start,
            damage=options.damage,
            hw_load=options.hw_decoder_load,
        )
        _check_workers(run, resources)
        return open_run(run, options.resumption)

    return plan


def _changes(options: Train) -> list[tuple[str, Any]]:
    """What the command line changes in the recipe."""
    short = {name: getattr(options, name) for name in ("epochs", "batch", "seed", "mean")}
    if options.schedule:
        short["schedule.kind"] = options.schedule
    return [change for change in short.items() if change[1] is not None] + list(options.set)


def _dataset(options: Train, size: int) -> Dataset:
    """A packed dataset, one that is packed now, or the photographs of a folder as one."""
    data: Path = options.data
    if str(data) in WORDS and not data.exists():
        packed = options.datasets / f"{data}-{size}"
        if not (packed / "manifest.json").exists():
            pack(open_source(str(data), VAL_FRACTION, None), packed, size, MAX_QUARANTINED)
        return Dataset(packed)
    marks = ("manifest.json", RECORDS)
    if any((data / mark).exists() for mark in marks) or not any(data.glob("*/")):
        return Dataset(data)
    directory = options.runs / options.name / "photographs"
    return index_photographs(folder_source(data, VAL_FRACTION, {}), directory, size)


def _fitted(recipe: Recipe, dataset: Dataset) -> Recipe:
    """The recipe for the classes of the dataset. Raises RunError where its pictures are others."""
    if dataset.manifest.size != recipe.size:
        raise RunError(
            f"{dataset.directory}: the images have {dataset.manifest.size} x "
            f"{dataset.manifest.size} pixels, but the recipe {recipe.name} takes {recipe.size}; "
            f"pack them with --size {recipe.size}"
        )
    classes = {"classes": len(dataset.manifest.classes)}
    return recipe.model_copy(update={"network": recipe.network.model_copy(update=classes)})


def _check_workers(run: Run, resources: Resources) -> None:
    """Ray would wait for what the cluster does not have."""
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
    if run.gpu and fewest > resources.gpus:
        raise RunError(
            f"{fewest} GPU(s) asked for, this cluster has {resources.gpus}; "
            "lower --workers, or use --device cpu"
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
