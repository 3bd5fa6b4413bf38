"""Figure 1: how many epochs a four-layer network with ReLUs takes to 25 % training error on
CIFAR-10, and how many with tanh; no regularisation, learning rates chosen for each (§3.1)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, get_args

import torch

from pipeline.sources.cifar import training_images
from trainer.paper.cifar_trial import training_errors
from trainer.paper.experiment import (
    Experiment,
    Found,
    Outcome,
    Place,
    Result,
    Row,
    Settings,
    Table,
    counted,
)
from trainer.paper.four_layers import Activation
from trainer.paper.race import Race, epochs_to

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GOAL = 0.25
PAPER = 6.0
"""Times as fast, says the paper."""
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)
COLOURS = {"relu": "C0", "tanh": "C1"}


class Budget(NamedTuple):
    rates: tuple[float, ...]
    """Learning rates of the sweep."""
    sweep_epochs: int
    epochs: int
    """The most that a training takes to the goal; then it has not reached it."""
    images: int | None
    """The first of the training images; None: all."""


BUDGETS = {
    "quick": Budget((0.001, 0.004), sweep_epochs=3, epochs=6, images=1000),
    "full": Budget(
        (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064), sweep_epochs=8, epochs=100, images=None
    ),
}


@dataclass(frozen=True)
class Figure1(Experiment):
    name: ClassVar[str] = "figure1"
    title: ClassVar[str] = "Figure 1: ReLU and tanh"

    cifar: Path
    dataset: str
    """Digest of the images."""
    images: int
    seeds: int
    budget: Budget

    @classmethod
    def of(cls, cifar: Path, size: str, seeds: int) -> "Figure1":
        """Raises DatasetError where the folder is not one of CIFAR-10."""
        budget = BUDGETS[size]
        image_N3HW, label_N = (part[: budget.images] for part in training_images(cifar))
        digest = hashlib.sha256(image_N3HW.tobytes() + label_N.tobytes()).hexdigest()
        return cls(cifar.absolute(), digest, len(label_N), seeds, budget)

    def rows(self, found: Found) -> list[Row]:
        swept = [self._swept(a, rate) for a in ACTIVATIONS for rate in self.budget.rates]
        if any(found(row) is None for row in swept):
            return swept
        best = {a: self._best(a, found) for a in ACTIVATIONS}
        measured = range(1, self.seeds + 1)
        return swept + [self._measured(a, best[a], seed) for seed in measured for a in ACTIVATIONS]

    def outcome(self, found: Found) -> Outcome:
        best = {a: self._best(a, found) for a in ACTIVATIONS}
        curves = {
            a: [self._errors(self._measured(a, best[a], n + 1), found) for n in range(self.seeds)]
            for a in ACTIVATIONS
        }
        reached = {a: [epochs_to(GOAL, errors) for errors in curves[a]] for a in ACTIVATIONS}
        race = Race.of(reached["relu"], reached["tanh"], self.budget.epochs)
        numbers = {
            "images": self.images,
            "goal": GOAL,
            "rates": best,
            "epochs": {a: [_json(value) for value in reached[a]] for a in ACTIVATIONS},
            "most_epochs": self.budget.epochs,
            "race": race._asdict(),
            "paper": PAPER,
        }
        rows = [
            (
                a, f"{best[a]:g}", f"{sum(value < inf for value in reached[a])} of {self.seeds}",
                _range(reached[a], self.budget.epochs),
                f"{min(min(errors) for errors in curves[a]):.1%}",
            )
            for a in ACTIVATIONS
        ]  # fmt: skip
        head = (
            "activation", "learning rate", "seeds that reach 25 %", "epochs to it",
            "lowest training error",
        )  # fmt: skip
        return Outcome(
            [self._paragraph(race, reached)],
            numbers,
            Table(head, rows),
            self._draw(best, curves, found),
        )

    def _swept(self, activation: Activation, rate: float) -> Row:
        return self._row(activation, rate, 0, self.budget.sweep_epochs)

    def _measured(self, activation: Activation, rate: float, seed: int) -> Row:
        return self._row(activation, rate, seed, self.budget.epochs)

    def _row(self, activation: Activation, rate: float, seed: int, epochs: int) -> Row:
        settings = {
            "dataset": self.dataset, "images": self.images, "activation": activation, "rate": rate,
            "seed": seed, "epochs": epochs,
        }  # fmt: skip
        name = f"{activation} at {rate:g}, seed {seed}, {epochs} epochs at most"
        return Row(name, train_four_layers, settings, self.cifar)

    def _errors(self, row: Row, found: Found) -> list[float]:
        result = found(row)
        assert result is not None
        return list(result["errors"])

    def _best(self, activation: Activation, found: Found) -> float:
        """The learning rate that comes to the goal first, or lowest in the sweep's epochs."""

        def speed(rate: float) -> tuple[float, float]:
            errors = self._errors(self._swept(activation, rate), found)
            return epochs_to(GOAL, errors), errors[-1]

        return min(self.budget.rates, key=speed)

    def _paragraph(self, race: Race, reached: dict[Activation, list[float]]) -> str:
        most = self.budget.epochs
        relu, tanh = (_range(reached[a], most) for a in ACTIVATIONS)
        first = (
            f"On {self.images:,} training images of CIFAR-10, {counted(self.seeds, 'seed')} and "
            f"learning rates by a sweep for each: with ReLUs the network takes {relu} epochs to "
            f"25 % training error, with tanh {tanh}."
        )
        if race.ratio is None:
            return (
                f"{first} Not all with ReLUs reached it within {most} epochs, so there is no "
                f"ratio to hold against the paper's {PAPER:g}."
            )
        spread = f" ({race.low:.1f} to {race.high:.1f} by seed)" if self.seeds > 1 else ""
        if race.at_least:
            said = (
                f"more than {race.ratio:.1f} times as fast{spread}, since not all of tanh arrived"
            )
        else:
            said = f"{race.ratio:.1f} times as fast{spread}"
        return (
            f"{first} ReLU is {said}; the paper says {PAPER:g} times, of a four-layer network that "
            "it does not describe."
        )

    def _draw(
        self, best: dict[Activation, float], curves: dict[Activation, list[list[float]]],
        found: Found,
    ) -> "Figure":  # fmt: skip
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 3))
        for activation in ACTIVATIONS:
            colour = COLOURS[activation]
            last = [
                self._errors(self._swept(activation, rate), found)[-1] for rate in self.budget.rates
            ]
            left.plot(self.budget.rates, last, "o-", color=colour, ms=4, label=activation)
            chosen = self.budget.rates.index(best[activation])
            left.plot(best[activation], last[chosen], "o", color=colour, ms=11, mfc="none")
            for errors in curves[activation]:
                right.plot(_middles(errors), errors, color=colour, lw=0.8, alpha=0.45)
            common = min(map(len, curves[activation]))
            means = [mean(errors[n] for errors in curves[activation]) for n in range(common)]
            label = f"{activation}, learning rate {best[activation]:g}"
            right.plot(_middles(means), means, color=colour, lw=2, label=label)
        right.axhline(GOAL, color="0.5", lw=0.8, ls="--")
        left.set(
            xlabel="learning rate of the weights (ring: chosen)", xscale="log", ylim=(0, 1),
            ylabel="training error of the last epoch",
            title=f"sweep, up to {self.budget.sweep_epochs} epochs",
        )  # fmt: skip
        right.set(
            xlabel="epochs", ylabel="training error", xlim=(0, None), ylim=(0, 1),
            title="each seed, and their mean as long as all go on",
        )  # fmt: skip
        left.minorticks_off()
        left.set_xticks(self.budget.rates, [f"{rate:g}" for rate in self.budget.rates])
        for axes in (left, right):
            axes.title.set_fontsize("medium")
            axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
        return figure


def train_four_layers(settings: Settings, place: Place) -> Result:
    """The training error of each epoch up to the goal, or up to the most epochs."""
    device = torch.device("cuda" if place.gpu else "cpu")
    images, labels = (part[: settings["images"]] for part in training_images(Path(place.data)))
    errors: list[float] = []
    for error in training_errors(
        torch.from_numpy(images.copy()).to(device),
        torch.from_numpy(labels.copy()).long().to(device),
        settings["activation"],
        settings["rate"],
        settings["seed"],
    ):
        errors.append(error)
        if error <= GOAL or len(errors) == settings["epochs"]:
            return {"errors": errors}
    raise AssertionError("the trial has no end of its own")


def _middles(errors: Sequence[float]) -> list[float]:
    return [number + 0.5 for number in range(len(errors))]


def _json(value: float) -> Any:
    return value if value < inf else None


def _range(values: Sequence[float], most: int) -> str:
    """5.1 (4.9 to 5.4): mean and extremes; of those that did not arrive, that they take longer."""
    arrived = [value for value in values if value < inf]
    if not arrived:
        return f"more than {most}"
    if len(arrived) < len(values):
        return f"{min(arrived):.1f} to more than {most}"
    spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"
