"""What twelve epochs can give: the recipe `small`, and that no other is better by one change."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pipeline.dataset import Dataset
from trainer.paper.experiment import Experiment, Found, Outcome, Row, Table, counted
from trainer.paper.network_trial import SIZES, Changes, accuracy, network_row, recipe_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECIPE = "small"
FOLDS = 5
"""One part of so many of the training images compares; the validation images choose nothing."""


class Candidate(NamedTuple):
    name: str
    changes: Changes
    """Of the recipe."""


OWN = Candidate(RECIPE, {})
CANDIDATES = (
    Candidate("batches of 32", {"batch": 32, "rate": 0.01}),
    Candidate("batches of 32, learning rate 0.005", {"batch": 32, "rate": 0.005}),
    Candidate("batches of 128", {"batch": 128, "rate": 0.01}),
    Candidate("learning rate 0.015", {"rate": 0.015}),
    Candidate("learning rate 0.007", {"rate": 0.007}),
    Candidate("drops instead of half a cosine", {"schedule.kind": "fixed"}),
    Candidate("conv1 never frozen", {"conv1_until": 1}),
    Candidate("no colour noise", {"colour_until": 0}),
    Candidate("colour noise to the end", {"colour_until": 1}),
    Candidate("dropout of 0.3", {"network.dropout": 0.3}),
    Candidate("weight decay 0.001", {"weight_decay": 0.001}),
    Candidate("order of layers as in the released code", {"network.order": "released"}),
    Candidate("three quarters of the width", {"network.width": 0.75}),
)


class Budget(NamedTuple):
    candidates: Sequence[Candidate]
    seeds: int
    """Of a candidate."""
    compared: Changes
    """Of the recipe, where candidates are compared: on small images, to take minutes."""
    measured: Changes
    """Of the recipe, where it is measured."""


BUDGETS = {
    "quick": Budget(CANDIDATES[:1], 1, compared=SIZES["quick"], measured=SIZES["quick"]),
    "full": Budget(CANDIDATES, 2, compared={"size": 88, "network.crop": 80}, measured={}),
}


@dataclass(frozen=True)
class Recipes(Experiment):
    name: ClassVar[str] = "recipes"
    title: ClassVar[str] = "What twelve epochs can give"

    compared: Dataset
    """Images of the size that candidates are compared on."""
    measured: Dataset
    """The same images, of the size that the recipe is measured on."""
    budget: Budget
    seeds: int

    def rows(self, found: Found) -> list[Row]:
        compared = [row for way in (OWN, *self.budget.candidates) for row in self._compared(way)]
        return compared + self._measured()

    def outcome(self, found: Found) -> Outcome:
        compared = {
            way.name: mean(accuracy(found, row, "top1", 10) for row in self._compared(way))
            for way in (OWN, *self.budget.candidates)
        }
        measured = {
            views: [accuracy(found, row, "top1", views) for row in self._measured()]
            for views in (1, 10)
        }
        rows = [
            (name, f"{value:.2f}", f"{value - compared[RECIPE]:+.2f}" if name != RECIPE else "")
            for name, value in compared.items()
        ]
        return Outcome(
            [self._measured_text(measured), self._compared_text(compared)],
            {"compared": compared, "measured": {str(v): each for v, each in measured.items()}},
            Table(("recipe", "top-1 accuracy, %", "points more than small"), rows),
            _draw(compared),
        )

    def _compared(self, way: Candidate) -> list[Row]:
        changes = {**self.budget.compared, **way.changes}
        return [
            network_row(way.name, changes, seed, self.compared, RECIPE, FOLDS)
            for seed in range(self.budget.seeds)
        ]

    def _measured(self) -> list[Row]:
        name = f"{RECIPE} on all training images"
        return [
            network_row(name, self.budget.measured, seed, self.measured, RECIPE)
            for seed in range(self.seeds)
        ]

    def _measured_text(self, measured: Mapping[int, Sequence[float]]) -> str:
        return (
            f"By the recipe {RECIPE}, from {len(self.measured.train):,} training images, "
            f"{_spread(measured[10])} % of {len(self.measured.val):,} validation images are right "
            f"from ten views, and {_spread(measured[1])} % from one; mean and standard deviation "
            f"of {counted(self.seeds, 'seed')}."
        )

    def _compared_text(self, compared: Mapping[str, float]) -> str:
        better = [name for name, value in compared.items() if value > compared[RECIPE]]
        crop = recipe_of(self._compared(OWN)[0]).network.crop
        return (
            f"Its numbers were chosen without the validation images: one in {FOLDS} training "
            f"images was left out, and {counted(self.budget.seeds, 'seed')} of each candidate "
            f"compared on these, from ten views, by networks on crops of {crop} pixels. Better by "
            f"one change than {RECIPE}, if only by chance: {', '.join(better) or 'none'}."
        )


def _spread(values: Sequence[float]) -> str:
    """71.40 ± 1.25: mean and sample standard deviation."""
    return f"{mean(values):.2f}" + (f" ± {stdev(values):.2f}" if len(values) > 1 else "")


def _draw(compared: Mapping[str, float]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.8 + 0.35 * len(compared)), layout="constrained")
    axes = figure.subplots()
    places = range(len(compared))[::-1]
    colours = ["C0" if name == RECIPE else "0.6" for name in compared]
    axes.scatter(list(compared.values()), places, c=colours, s=50)
    axes.axvline(compared[RECIPE], color="C0", lw=0.8)
    axes.set_yticks(places, list(compared))
    axes.set(xlabel="top-1 accuracy of the images left out, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, axis="x")
    return figure
