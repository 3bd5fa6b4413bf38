"""What the commands from `train` to `stop` do; each returns its exit status."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from alexnet import atomic, console
from alexnet.home import home
from alexnet.store.models import read_about
from alexnet.store.url import Place
from pipeline.cluster import cluster
from pipeline.sources import Columns
from pipeline.split import Damage
from trainer.arguments import (
    COMMANDS,
    TORCHVISION,
    Evaluate,
    Export,
    Import,
    Index,
    Logs,
    Predict,
    Publish,
    Report,
    ShowRecipe,
    Status,
    Stop,
    Submit,
    Train,
    is_torchvision,
)
from trainer.folder.folder import open_folder
from trainer.on_ray.dashboard import VARIABLE
from trainer.on_ray.jobs import Job, Jobs, listing
from trainer.on_ray.launch import kept_checkpoint, launch
from trainer.on_ray.probe import usable_resources
from trainer.plan import (
    few_steps,
    find_dataset,
    make_run,
    pack_dataset,
    recipe_changes,
    starting_model,
)
from trainer.publishing import weight_size
from trainer.publishing.exports import export
from trainer.publishing.imports import publish_import
from trainer.publishing.official import publish_official
from trainer.publishing.publish import publish
from trainer.report import draw_curves
from trainer.resolution import resolve
from trainer.run import RunError, ask_to_stop, find_run, metrics_of, open_run, trained_epochs


def train(options: Train) -> int:
    start = starting_model(options)
    recipe = resolve(options.recipe, os.environ, recipe_changes(options), start)
    dataset = find_dataset(options, recipe.size, recipe.batch)
    home()  # Ray Train looks for it, and says less where there is none
    with cluster():
        dataset = dataset or pack_dataset(options, recipe.size)
        found = usable_resources(options.device)
        run = make_run(options, recipe, dataset, start, found)
        run = open_run(run, options.resumption)
        outcome = launch(run)
    if not outcome.finished:
        again = "the same command" + ("" if options.resume_if_any else " with --resume")
        print(f"stopped; to go on: {again} (run {run.name})")
        return 0
    if (epochs := trained_epochs(run)) < run.recipe.epochs:
        print(
            f"ended after {epochs} of {run.recipe.epochs} epochs: {recipe.stop_after} without a "
            "lower validation error"
        )
    best = options.publish == "best"
    checkpoint = kept_checkpoint(run, best=True) if best else outcome.checkpoint
    directory = publish(run, checkpoint, options.models)
    _published(directory)
    if told := few_steps(run, len(dataset.train)):
        print(told, file=sys.stderr, flush=True)
    return _indexed(directory, run.data, run.damage) if options.index else 0


def _indexed(model: Place, data: Place, damage: Damage) -> int:
    """Index the model's training images in a process of its own, which begins as trainer/index.py
    says, and whose end is not that of the training. Returns its status."""
    words = [
        "index",
        str(model),
        "--data",
        str(data),
        *(("--damage", damage) * (damage != "error")),
    ]
    status = subprocess.call([sys.executable, "-m", "trainer", *words])
    if status:
        command = shlex.join(["alexnet", *words])
        print(f"{model} is published, but without an index; to build it: {command}", flush=True)
    return status


def stop(options: Stop) -> int:
    if VARIABLE not in os.environ and _has_folder(options):
        ask_to_stop(find_run(options.runs, options.name))
    else:
        _stop_job(options)
    print(f"asked {options.name} to save a checkpoint and end")
    return 0


def _has_folder(options: Stop) -> bool:
    directory = options.runs / options.name
    return directory.is_dir() if isinstance(directory, Path) else open_folder(directory).exists()


def _stop_job(options: Stop) -> None:
    try:
        jobs = Jobs()
        jobs.stop(jobs.last(options.name))
    except RunError as error:
        if VARIABLE in os.environ:
            raise
        raise RunError(f"{options.runs} has no run {options.name}, and {error}") from None


def submit(options: Submit) -> int:
    command = options.command
    if "--detach" in command:
        raise RunError("--detach belongs before train: alexnet submit --detach train ...")
    if command[0] not in ("train", "index"):
        raise RunError(
            f"{command[0]!r} cannot be submitted; only `train` and `index` with their options can"
        )
    asked = console.parsed(command[0], COMMANDS, command[1:])  # a mistake shows here and now
    if asked is None:
        return 0
    if isinstance(asked, Index):
        name = f"{asked.model.name}.index"
    else:
        assert isinstance(asked, Train)
        name = asked.name
        if asked.resumption == "no":
            command = (*command, "--resume-if-any")
    jobs = Jobs()
    job = jobs.send(name, command)
    print(f"{job.id}: sent to {jobs.address}", flush=True)
    return 0 if options.detach else _followed(jobs, job)


def status(options: Status) -> int:
    print(listing(Jobs().all()))
    return 0


def logs(options: Logs) -> int:
    jobs = Jobs()
    return _followed(jobs, jobs.last(options.name))


def _followed(jobs: Jobs, job: Job) -> int:
    try:
        end = jobs.follow(job)
    except KeyboardInterrupt:
        print(f"\n{job.run} goes on; to stop it: alexnet stop {job.run}")
        return 0
    print(f"{end.id}: {end.state.lower()}")
    return 1 if end.state == "FAILED" else 0


def publish_run(options: Publish) -> int:
    run = find_run(options.runs, options.name)
    checkpoint = kept_checkpoint(run, options.best)
    return _published(publish(run, checkpoint, options.models))


def _published(directory: Place, new: bool = True) -> int:
    done = "published" if new else "already published:"
    told = ""
    if accuracy := read_about(directory).accuracy:
        views = "1 view" if accuracy[-1].views == 1 else f"{accuracy[-1].views} views"
        told = f", top-1 {accuracy[-1].top1 / accuracy[-1].pictures:.2%} by {views}"
    serve = f"alexnet serve --model {directory.parent}"
    print(f"{done} {directory}{told}; to serve it: {serve}", flush=True)
    return 0


def show_recipe(options: ShowRecipe) -> int:
    recipe = resolve(options.recipe, os.environ, options.set)
    print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), end="")
    return 0


def report(options: Report) -> int:
    for path in draw_curves(metrics_of(options.runs / options.name), options.picture):
        print(path)
    return 0


def import_model(options: Import) -> int:
    if is_torchvision(options.file):
        official = publish_official(options.name or TORCHVISION, options.classes, options.models)
        return _published(official.directory, new=official.new)
    assert options.from_
    assert options.name
    with weight_size.bounded(options.file, options.mean):
        directory = publish_import(
            options.file, options.from_, options.name, options.classes, options.mean, options.models
        )
    return _published(directory)


def export_model(options: Export) -> int:
    export(options.model, options.out, options.opset)
    print(options.out)
    return 0


def evaluate(options: Evaluate) -> int:
    for option, file in (
        ("--json", options.json_),
        ("--save-probabilities", options.save_probabilities),
    ):
        if file and not file.absolute().parent.is_dir():
            raise RunError(f"{option} {file}: there is no such folder; make it first")
    # DALI and FAISS, which the other commands need not load.
    from trainer.evaluation.evaluate import evaluate_models
    from trainer.evaluation.originals import Labels
    from trainer.evaluation.saved import evaluate_saved
    from trainer.evaluation.table import table

    views = sorted(set(options.views))
    columns = Columns(options.file_column, options.label_column)
    if options.probabilities:
        results = evaluate_saved([*map(Path, options.models)], views, options.search_weights)
    else:
        results = evaluate_models(
            options.models,
            options.data,
            options.originals,
            views=views,
            search=options.search_weights,
            workers=options.workers,
            device=options.device,
            calibrated=options.calibrate,
            target_precision=options.target_precision,
            report=options.report,
            folds=options.folds,
            init_from=options.init_from,
            save=options.save_probabilities,
            labels=Labels(options.labels, columns) if options.labels else None,
        )
    print(table(results))
    if options.json_:
        atomic.write(options.json_, results.model_dump_json(indent=2).encode())
    if options.report:
        print(f"\nthe page: {options.report / 'index.html'}")
    return 0


def predict(options: Predict) -> int:
    from trainer.prediction import predict as prediction  # pyarrow, as above

    found = prediction.predict(
        options.model,
        [str(source) for source in options.sources],
        options.out,
        devkit=options.devkit,
        views=options.views,
        top=options.top,
        min_probability=options.min_probability,
        workers=options.workers,
        device=options.device,
    )
    print(
        f"{options.out}: {found.photographs:,} photographs, {found.errors:,} without an answer"
        + (f"; {found.kept:,} were answered before the interruption" if found.kept else "")
    )
    return 0
