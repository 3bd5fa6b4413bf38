"""`alexnet paper report`: what all experiments found, as one HTML page that needs nothing else."""

from pathlib import Path
from typing import NamedTuple

from alexnet import atomic
from trainer import pages
from trainer.arguments import PAPER
from trainer.evaluation.report.album import data_uri
from trainer.paper.evidence import Evidence, described
from trainer.run import RunError

PAGE = "index.html"


class Part(NamedTuple):
    evidence: Evidence
    figure: str
    """Its PNG, as an address."""
    machine: str


def write(folder: Path) -> Path:
    """Write the page about what lies in the folder. Raises RunError where there is nothing."""
    parts = [_part(folder, name) for name in PAPER if (folder / f"{name}.json").exists()]
    if not parts:
        raise RunError(
            f"{folder}: there is no evidence of an experiment here; run `alexnet paper all` first, "
            "or name its --out"
        )
    template = pages.environment(Path(__file__).parent).get_template("page.html")
    atomic.write(folder / PAGE, template.render(parts=parts).encode())
    return folder / PAGE


def _part(folder: Path, name: str) -> Part:
    evidence = Evidence.model_validate_json((folder / f"{name}.json").read_text())
    figure = data_uri((folder / f"{name}.png").read_bytes(), "png")
    return Part(evidence, figure, described(evidence.machine))
