"""What each part of the paper's network is worth: trained without it, at the same budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pipeline.dataset import Dataset
from trainer.paper.experiment import Experiment, Found, Outcome, Row, Table, counted
from trainer.paper.interval import SURE, Interval
from trainer.paper.network_trial import Changes, accuracy, network_row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Ablation(NamedTuple):
    """A network that lacks something, or has it otherwise."""

    name: str
    changes: Changes
    """Of the recipe."""
    paper: Mapping[str, float]
    """The points of error, by their name, that the paper says its own way saves."""


ABLATIONS = (
    Ablation(
        "plain pooling instead of overlapping (§3.4)",
        {"network.pooling": "plain"},
        {"top-1": 0.4, "top-5": 0.3},
    ),
    Ablation(
        "no local response normalisation (§3.3)",
        {"network.local_response_norm": False},
        {"top-1": 1.4, "top-5": 1.2},
    ),
    Ablation(
        "one tower of half the kernels (§3.2)", {"network.towers": 1}, {"top-1": 1.7, "top-5": 1.2}
    ),
    Ablation("no colour noise (§4.1)", {"colour_until": 0}, {"top-1": 1.0}),
    Ablation("no mirrors (§4.1)", {"mirrors": False}, {}),
    Ablation("crops of the centre alone (§4.1)", {"crops": "centre"}, {}),
    Ablation("no dropout (§4.2)", {"network.dropout": 0}, {}),
    Ablation("dropout as torch has it (§4.2)", {"network.ablation.inverted_dropout": True}, {}),
    *(
        Ablation(f"without {layer} (§7)", {"network.ablation.removed": layer}, {"top-1": 2.0})
        for layer in ("conv3", "conv4", "conv5")
    ),
    Ablation("no links between the towers (§3.2)", {"network.ablation.links": False}, {}),
    Ablation(
        "conv3 to conv5 start with 0.01, as in the text (§5)",
        {"network.ablation.deviation": 0.01},
        {},
    ),
    Ablation("order of layers as in the released code", {"network.order": "released"}, {}),
)
VIEWS = Ablation("one view instead of ten (§6.1)", {}, {"top-1": 1.5, "top-5": 1.3})
"""Of the same networks."""


class Effect(NamedTuple):
    """What the paper's way saves, in points of top-1 error."""

    ablation: Ablation
    errors: list[float]
    """Of each seed without it, in percent."""
    top1: Interval
    top5: Interval


@dataclass(frozen=True)
class Ablations(Experiment):
    name: ClassVar[str] = "ablations"
    title: ClassVar[str] = "What each part is worth"

    dataset: Dataset
    base: Changes
    seeds: int

    def rows(self, found: Found) -> list[Row]:
        ways = (("as in the paper", {}), *((a.name, a.changes) for a in ABLATIONS))
        return [self._row(name, way, seed) for seed in range(self.seeds) for name, way in ways]

    def outcome(self, found: Found) -> Outcome:
        base = [self._row("", {}, seed) for seed in range(self.seeds)]
        effects = []
        for ablation in ABLATIONS:
            without = [self._row("", ablation.changes, seed) for seed in range(self.seeds)]
            effects.append(self._effect(ablation, base, without, found))
        effects.append(self._effect(VIEWS, base, base, found))
        own = Interval.of([_error(found, row, "top1", 10) for row in base])
        numbers = {
            "error": own._asdict(),
            "effects": {
                e.ablation.name: {
                    "paper": e.ablation.paper,
                    "above_noise": e.top1.excludes_zero,
                    "top1": e.top1.finite,
                    "top5": e.top5.finite,
                }
                for e in effects
            },
        }
        return Outcome(
            self._paragraphs(effects, own), numbers, _table(effects, own), _draw(effects)
        )

    def _row(self, name: str, way: Changes, seed: int) -> Row:
        return network_row(name, {**self.base, **way}, seed, self.dataset)

    def _effect(
        self, ablation: Ablation, base: list[Row], without: list[Row], found: Found
    ) -> Effect:
        """Of pairs of the same seed."""
        views = 1 if ablation is VIEWS else 10
        differences = {
            which: Interval.of(
                [
                    _error(found, row, which, views) - _error(found, own, which, 10)
                    for row, own in zip(without, base, strict=True)
                ]
            )
            for which in ("top1", "top5")
        }
        errors = [_error(found, row, "top1", views) for row in without]
        return Effect(ablation, errors, **differences)

    def _paragraphs(self, effects: list[Effect], own: Interval) -> list[str]:
        above = [e for e in effects if e.top1.excludes_zero]
        below = [e for e in effects if not e.top1.excludes_zero]
        manifest = self.dataset.manifest
        first = (
            f"Trained on {len(self.dataset.train):,} images of {len(manifest.classes)} classes, "
            f"{counted(self.seeds, 'seed')} each, the network as in the paper has a top-1 error "
            f"of {own.mean:.1f} % by ten views on {len(self.dataset.val):,} validation images. "
            f"Above the noise, where the interval of {SURE} leaves out zero: "
            f"{_named(above)}. Not above the noise: {_named(below)}."
        )
        return [first, *(said for e in effects if (said := _otherwise(e)))]


def _otherwise(effect: Effect) -> str | None:
    """What is not as in the paper; None where nothing is, or where the paper has no number."""
    paper, found = effect.ablation.paper.get("top-1"), effect.top1
    if paper is None or (found.excludes_zero and found.low <= paper <= found.high):
        return None
    name = effect.ablation.name
    said = f"{name[0].upper()}{name[1:]}: the paper's way saves {paper:g} points there"
    if not found.excludes_zero:
        within = "and the interval does not tell it from none"
        return f"{said}, here {_points(found)}, {within}."
    return f"{said}, here {_points(found)}."


def _error(found: Found, row: Row, which: str, views: int) -> float:
    """In percent."""
    return 100 - accuracy(found, row, which, views)


def _named(effects: list[Effect]) -> str:
    return "; ".join(f"{e.ablation.name}, {_points(e.top1)}" for e in effects) or "none"


def _points(interval: Interval) -> str:
    if interval.finite["low"] is None:
        return f"{interval.mean:+.1f}"
    return f"{interval.mean:+.1f} ({interval.low:+.1f} to {interval.high:+.1f})"


def _table(effects: list[Effect], own: Interval) -> Table:
    rows: list[tuple[str, ...]] = [("as in the paper", f"{own.mean:.1f}", "", "", "")]
    for e in effects:
        error = sum(e.errors) / len(e.errors)
        above = "yes" if e.top1.excludes_zero else "no"
        paper = ", ".join(f"{points:g} ({which})" for which, points in e.ablation.paper.items())
        rows.append((e.ablation.name, f"{error:.1f}", _points(e.top1), above, paper))
    head = (
        "network", "top-1 error, %", "points that the paper's way saves", "above the noise",
        "in the paper",
    )  # fmt: skip
    return Table(head, rows)


def _draw(effects: list[Effect]) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.8 + 0.45 * len(effects)), layout="constrained")
    axes = figure.subplots()
    for place, effect in enumerate(reversed(effects)):
        found, paper = effect.top1, effect.ablation.paper.get("top-1")
        colour = "C0" if found.excludes_zero else "0.6"
        if found.finite["low"] is not None:
            axes.plot((found.low, found.high), (place, place), color=colour, lw=2)
        axes.plot(found.mean, place, "o", color=colour, ms=7)
        if paper is not None:
            axes.plot(paper, place, "D", color="C1", mfc="none", ms=8)
    axes.plot([], [], "o-", color="C0", label=f"here, with the interval of {SURE}")
    axes.plot([], [], "o-", color="0.6", label="the same, not above the noise")
    axes.plot([], [], "D", color="C1", mfc="none", label="the paper")
    axes.axvline(0, color="0.4", lw=0.8)
    axes.set_yticks(range(len(effects)), [e.ablation.name for e in reversed(effects)])
    axes.set(xlabel="points of top-1 error that the paper's way saves", ylim=(-0.6, None))
    figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, axis="x")
    return figure
