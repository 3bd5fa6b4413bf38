"""python -m tests.gpu: what runs on a GPU, held to what a CPU computes, and how fast it is.

Every check is a process with a time limit. Its findings are printed as JSON, one a line, as they
come, and appended to results.jsonl after a line with date and machine; a table of all comes last,
also after Ctrl-C.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

import torch
from typer import Argument

from alexnet.command import UserError
from alexnet.console import Options
from tests.benchmarks.harness import machine, table
from tests.benchmarks.harness import run as run_command
from tests.gpu import answers, batches, ceilings, network, runs, speed, workers
from tests.gpu.check import Check, Outcome, Setup, run

PACKED = Check(batches.packed, 300)
"""Before all others."""
CORRECT = (
    Check(ceilings.machine, 60),
    Check(batches.whole_images, 60),
    Check(batches.train_images, 60),
    Check(batches.whole_epoch, 60),
    Check(batches.held_batches, 60),
    Check(batches.damaged_files, 60),
    Check(network.logits_and_gradients, 90),
    Check(network.norm, 60),
    Check(network.dropout_masks, 60),
    Check(network.losses, 120),
    Check(workers.averaged_gradients, 60),
    Check(workers.repeated_bits, 60),
    Check(runs.killed_and_resumed, 400),
    Check(answers.predictor, 120),
    Check(answers.server, 120),
)
SPEED = (
    Check(ceilings.ceilings, 60),
    Check(speed.step, 120),
    Check(speed.operations, 60),
    Check(speed.convolutions, 60),
    Check(speed.loader, 300),
    Check(speed.validation, 60),
    Check(speed.run, 300),
    Check(speed.server, 300),
    Check(speed.compiled_step, 120),
)
SETS = {"correct": CORRECT, "speed": SPEED, "all": CORRECT + SPEED}


class Kit(Options):
    """Hold what runs on a GPU to what a CPU computes, and measure how fast it is."""

    set: Annotated[Literal["correct", "speed", "all"], Argument()] = "all"
    """Which checks."""
    device: Literal["cuda", "cpu"] = "cuda"
    """cpu rehearses every check at small size."""
    only: tuple[str, ...] = ()
    """Checks to run, by name; can be repeated."""
    photographs: Path | None = None
    """Class folders to train and test on, instead of drawn images."""
    folder: Path = Path("gpu")
    """For the dataset, the runs, the logs and results.jsonl. The dataset is packed once."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("gpu", Kit, work, arguments, "correct --device cpu", package="tests")


def work(options: Kit) -> int:
    """The status is 1 where a check has failed."""
    folder = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    setup = Setup(options.device, folder, options.photographs)
    names = [check.name for check in SETS[options.set]]
    if unknown := set(options.only) - set(names):
        raise UserError(f"--only {' '.join(sorted(unknown))}: there are {', '.join(names)}")
    if setup.gpu and not torch.cuda.is_available():
        raise UserError(
            f"torch {torch.__version__} can use no GPU here; --device cpu rehearses the checks, "
            "and docs/troubleshooting.md says what a GPU needs"
        )
    todo = [check for check in SETS[options.set] if not options.only or check.name in options.only]

    def say(word: dict) -> None:
        line = json.dumps(word)
        print(line, flush=True)
        with (folder / "results.jsonl").open("a") as file:
            file.write(f"{line}\n")

    gpu = torch.cuda.get_device_name(setup.torch_device) if setup.gpu else None
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    say({"date": date.today().isoformat(), "gpu": gpu, **machine(), **versions})
    if not (setup.dataset / "manifest.json").exists():
        todo = [PACKED, *todo]
    outcomes = []
    for check in todo:
        outcomes.append(run(check, setup, say))
        if outcomes[-1].interrupted or (check is PACKED and not outcomes[-1].passed):
            break
    print(f"\n{table(('check', 'case', 'value', 'bound', ''), _rows(outcomes))}")
    failed = [outcome.check for outcome in outcomes if not outcome.passed]
    seconds = sum(outcome.seconds for outcome in outcomes)
    print(f"{len(outcomes) - len(failed)} of {len(outcomes)} passed in {seconds:.0f} s")
    if failed:
        print("failed:", *failed)
    return 1 if failed else 0


def _rows(outcomes: list[Outcome]) -> Iterator[tuple[str, ...]]:
    for outcome in outcomes:
        for finding in outcome.findings:
            bound = "" if finding.at_most is None else f"{finding.at_most:g}"
            value = f"{finding.value:,.4g} {finding.unit}".strip()
            verdict = "" if finding.at_most is None else ("ok" if finding.passed else "FAILED")
            yield outcome.check, finding.case, value, bound, verdict
        if outcome.error:
            yield outcome.check, outcome.error.splitlines()[0][:200], "", "", "FAILED"


if __name__ == "__main__":
    sys.exit(main())
