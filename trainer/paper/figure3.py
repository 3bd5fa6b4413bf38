"""Figure 3: the kernels of conv1, and whether one tower turns to colour and the other to grey (§6).

Shapes: N kernels, K rows and columns of a kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from alexnet.checkpoint import load
from pipeline.dataset import Dataset
from trainer.paper.colour import chance, separation
from trainer.paper.experiment import Experiment, Found, Outcome, Row, Table, counted
from trainer.paper.interval import SURE, Interval
from trainer.paper.network_trial import Changes, network_row, published

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORKS: tuple[tuple[str, Changes], ...] = (
    ("two towers", {}),
    # All 96 kernels in one tower, so that its halves are as large as towers are.
    ("one tower", {"network.towers": 1, "network.kernels": (96, 256, 384, 384, 256)}),
)
UNLIKELY = 0.05
COLUMNS = 12


class Measured(NamedTuple):
    """One network."""

    halves: tuple[float, float]
    """How colourful the kernels of each tower are, in the mean; of one tower, of its halves."""
    separation: float
    chance: float

    @classmethod
    def of(cls, colour_N: np.ndarray) -> "Measured":
        first, second = np.split(colour_N, 2)
        return cls(
            (float(first.mean()), float(second.mean())), separation(colour_N), chance(colour_N)
        )


@dataclass(frozen=True)
class Figure3(Experiment):
    name: ClassVar[str] = "figure3"
    title: ClassVar[str] = "Figure 3: colour in one tower, grey in the other"

    dataset: Dataset
    base: Changes
    seeds: int
    models: Path
    """The folder of the trained networks."""

    def rows(self, found: Found) -> list[Row]:
        return [row for seed in range(self.seeds) for row in self._rows(seed).values()]

    def outcome(self, found: Found) -> Outcome:
        measured = {
            name: [Measured.of(self._colour(self._rows(n)[name], found)) for n in range(self.seeds)]
            for name, _ in NETWORKS
        }
        towers, one = (measured[name] for name, _ in NETWORKS)
        more = Interval.of([a.separation - b.separation for a, b in zip(towers, one, strict=True)])
        numbers = {
            "more": more.finite,
            "networks": {name: [m._asdict() for m in own] for name, own in measured.items()},
        }
        head = (
            "network", "colourfulness of all kernels", "separation", "lowest to highest",
            f"seeds with a chance below {100 * UNLIKELY:g} %",
        )  # fmt: skip
        rows = []
        for name, own in measured.items():
            apart = [m.separation for m in own]
            rows.append(
                (
                    name, f"{mean(mean(m.halves) for m in own):.3f}", f"{mean(apart):.3f}",
                    f"{min(apart):.3f} to {max(apart):.3f}", f"{_unlikely(own)} of {self.seeds}",
                )
            )  # fmt: skip
        return Outcome(
            self._paragraphs(towers, one, more), numbers, Table(head, rows),
            self._draw(found, measured),
        )  # fmt: skip

    def _rows(self, seed: int) -> dict[str, Row]:
        return {
            name: network_row(name, {**self.base, **changes}, seed, self.dataset)
            for name, changes in NETWORKS
        }

    def _colour(self, row: Row, found: Found) -> np.ndarray:
        result = found(row)
        assert result is not None
        return np.array(result["colourfulness"])

    def _paragraphs(
        self, towers: Sequence[Measured], one: Sequence[Measured], more: Interval
    ) -> list[str]:
        apart, control = (mean(m.separation for m in own) for own in (towers, one))
        ends = f" (interval of {SURE}: {more.low:+.3f} to {more.high:+.3f})"
        said = (
            f"Of a kernel's energy, the share off the grey axis is its colourfulness. Over "
            f"{counted(self.seeds, 'seed')} the means of the two towers are "
            f"{apart:.3f} apart, those of the halves of a network with one tower {control:.3f}: "
            f"{more.mean:+.3f}{ends if self.seeds > 1 else ''}. In {_unlikely(towers)} of "
            f"{self.seeds} networks with two towers, and in {_unlikely(one)} with one, fewer than "
            f"{100 * UNLIKELY:g} % of random halves of the kernels are as far apart."
        )
        if _unlikely(towers) == self.seeds and more.low > 0:
            return [f"{said} So one tower turns to colour in every run, as the paper says."]
        return [
            said,
            "The paper says that one tower turns to colour and the other to grey in every run. At "
            "this size that did not come out: "
            + (
                "the towers are further apart than chance has them, but not in every run."
                if more.low > 0
                else "the towers are not further apart than halves that mean nothing."
            ),
        ]

    def _draw(self, found: Found, measured: dict[str, list[Measured]]) -> "Figure":
        from matplotlib.figure import Figure

        figure = Figure(figsize=(11, 3.6), layout="constrained")
        (name, _), *_ = NETWORKS
        model = load(published(self._rows(0)[name], found, self.models)).model
        kernel_N3KK = model.conv1.weight.detach().numpy()
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        left.imshow(_grid(kernel_N3KK))
        left.set(title="conv1, the first tower above, the second below; seed 0")
        left.set_axis_off()
        for place, (_, own) in enumerate(measured.items()):
            for number, network in enumerate(own):
                x = place + 0.5 * ((number + 1) / (len(own) + 1) - 0.5)
                right.plot((x, x), network.halves, "o-", color=f"C{place}", ms=4, lw=1)
        right.axhline(2 / 3, color="0.5", lw=0.8, ls="--")
        right.set_xticks(range(len(measured)), list(measured))
        right.set(
            ylabel="mean colourfulness of each half", xlim=(-0.5, len(measured) - 0.5), ylim=(0, 1),
            title="a line for each network; dashed: random weights",
        )  # fmt: skip
        for axes in (left, right):
            axes.title.set_fontsize("medium")
        right.spines[["top", "right"]].set_visible(False)
        right.grid(alpha=0.25, axis="y")
        return figure


def _grid(kernel_N3KK: np.ndarray) -> np.ndarray:
    """Kernels side by side, each scaled to its own range, the halves apart; (rows, columns, 3)."""
    halves, columns = [], min(COLUMNS, len(kernel_N3KK) // 2)
    for half in np.split(kernel_N3KK, 2):
        low, high = (edge(half, axis=(1, 2, 3), keepdims=True) for edge in (np.min, np.max))
        half = np.pad(
            (half - low) / (high - low), ((0, 0), (0, 0), (1, 0), (1, 0)), constant_values=1
        )
        missing = -len(half) % columns
        half = np.pad(half, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=1)
        count, _, rows, _ = half.shape
        tiles = half.reshape(count // columns, columns, 3, rows, rows).transpose(0, 3, 1, 4, 2)
        halves.append(tiles.reshape(count // columns * rows, columns * rows, 3))
    gap = np.ones((3, halves[0].shape[1], 3))
    return np.concatenate([halves[0], gap, halves[1]])


def _unlikely(networks: Sequence[Measured]) -> int:
    """How many have a separation that chance seldom gives."""
    return sum(network.chance < UNLIKELY for network in networks)
