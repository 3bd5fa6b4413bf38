"""python -m trainer: a packed dataset to a published model."""

import argparse
import os
import sys
from pathlib import Path

import yaml

from alexnet import atomic
from alexnet.checkpoint import Accuracy
from alexnet.command import run
from trainer.arguments import Command, parser
from trainer.exports import export
from trainer.imports import publish_import
from trainer.jobs import VARIABLE, Job, Jobs, table
from trainer.launch import kept_checkpoint, launch
from trainer.plan import planned
from trainer.publish import publish
from trainer.recipe import resolve
from trainer.report import draw_curves, history
from trainer.run import RunError, ask_to_stop, find_run


def main(arguments: list[str] | None = None) -> int:
    return run(parser(COMMANDS), arguments)


def _train(options: argparse.Namespace) -> int:
    done, outcome = launch(planned(options))
    if not outcome.finished:
        print(f"stopped; to go on: the same command with --resume (run {done.name})")
        return 0
    accuracy = [Accuracy.model_validate(counts) for counts in outcome.accuracy]
    return _published(publish(done, outcome.checkpoint, accuracy, options.models))


def _stop(options: argparse.Namespace) -> int:
    if VARIABLE in os.environ:
        jobs = Jobs()
        jobs.stop(jobs.last(options.name))
    else:
        ask_to_stop(find_run(options.runs, options.name))
    print(f"asked {options.name} to save a checkpoint and end")
    return 0


def _submit(options: argparse.Namespace) -> int:
    command = options.command
    if command[:1] != ["train"]:
        raise RunError("what can be submitted is `train` and its options")
    asked = parser(COMMANDS).parse_args(command)  # a mistake shows here and now
    if asked.resume == "no":
        command = [*command, "--resume", "if-any"]
    jobs = Jobs()
    job = jobs.send(asked.name, command)
    print(f"{job.id}: sent to {jobs.address}", flush=True)
    return 0 if options.detach else _followed(jobs, job)


def _status(options: argparse.Namespace) -> int:
    print(table(Jobs().all()))
    return 0


def _logs(options: argparse.Namespace) -> int:
    jobs = Jobs()
    return _followed(jobs, jobs.last(options.name))


def _followed(jobs: Jobs, job: Job) -> int:
    try:
        end = jobs.follow(job)
    except KeyboardInterrupt:
        print(f"\n{job.run} goes on; to stop it: python -m trainer stop {job.run}")
        return 0
    print(f"{end.id}: {end.state.lower()}")
    return 1 if end.state == "FAILED" else 0


def _publish(options: argparse.Namespace) -> int:
    run = find_run(options.runs, options.name)
    checkpoint = kept_checkpoint(run, options.best)
    step = int(checkpoint.name.removeprefix("step_"))
    measured = [
        Accuracy(**{field: event[field] for field in Accuracy.model_fields})
        for event in history(run.metrics)[1]
        if event["step"] == step
    ]
    return _published(publish(run, checkpoint, measured, options.models))


def _published(directory: Path) -> int:
    print(f"published {directory}; to serve it: python -m serving --model {directory.parent}")
    return 0


def _recipe(options: argparse.Namespace) -> int:
    recipe = resolve(options.recipe, os.environ, options.set)
    print(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), end="")
    return 0


def _report(options: argparse.Namespace) -> int:
    for path in draw_curves(options.runs / options.name / "metrics.jsonl", options.picture):
        print(path)
    return 0


def _import(options: argparse.Namespace) -> int:
    directory = publish_import(
        options.file, options.family, options.name, options.classes, options.mean, options.models
    )
    return _published(directory)


def _export(options: argparse.Namespace) -> int:
    export(options.model, options.out)
    print(options.out)
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    if options.json and not options.json.absolute().parent.is_dir():
        raise RunError(f"--json {options.json}: there is no such folder; make it first")
    from trainer.evaluation import evaluate_models  # DALI, which the other commands need not load
    from trainer.table2 import table2

    results = evaluate_models(
        options.models,
        options.data,
        options.originals,
        views=sorted(set(options.views)),
        search=options.search_weights,
        workers=options.workers,
        device=options.device,
    )
    print(table2(results))
    if options.json:
        atomic.write(options.json, results.model_dump_json(indent=2).encode())
    return 0


COMMANDS: dict[str, Command] = {
    "train": _train,
    "stop": _stop,
    "submit": _submit,
    "status": _status,
    "logs": _logs,
    "publish": _publish,
    "evaluate": _evaluate,
    "report": _report,
    "recipe": _recipe,
    "import": _import,
    "export": _export,
}

if __name__ == "__main__":
    sys.exit(main())
