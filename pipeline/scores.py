"""What the windows of a benchmark come to: rates, ratios against goals, a table, a picture."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from alexnet.benchmark import Spread
from pipeline.contender import Window
from pipeline.figure import save

Windows = dict[str, list[Window]]
"""{contender: its window of each round}."""


class Goal(NamedTuple):
    ours: str
    peer: str
    at_least: float
    """Images per core-second of ours over those of the peer."""


@dataclass(frozen=True)
class Rate:
    contender: str
    windows: list[Window]
    images_per_s: Spread
    images_per_core_s: Spread


@dataclass(frozen=True)
class Ratio:
    ours: str
    peer: str
    ratio: Spread
    """Within each round: what slows the machine down slows both."""
    at_least: float
    met: bool


@dataclass(frozen=True)
class Scores:
    rates: list[Rate]
    ratios: list[Ratio]

    @classmethod
    def of(cls, windows: Windows, goals: Iterable[Goal]) -> "Scores":
        """Rates of all contenders, and the goals between those that took part."""
        rates = [
            Rate(
                name,
                own,
                Spread.of(window.images_per_s for window in own),
                Spread.of(window.images_per_core_s for window in own),
            )
            for name, own in windows.items()
        ]
        ratios = []
        for ours, peer, at_least in goals:
            if ours in windows and peer in windows:
                rounds = zip(windows[ours], windows[peer], strict=True)
                spread = Spread.of(a.images_per_core_s / b.images_per_core_s for a, b in rounds)
                ratios.append(Ratio(ours, peer, spread, at_least, spread.median >= at_least))
        return cls(rates, ratios)

    def table(self) -> str:
        """Markdown."""
        rates = [
            f"| {rate.contender} | {rate.images_per_s.median:,.0f} "
            f"| {rate.images_per_core_s.median:,.0f} "
            f"| {rate.images_per_core_s.low:,.0f} to {rate.images_per_core_s.high:,.0f} |"
            for rate in self.rates
        ]
        ratios = [
            f"| {r.ours} : {r.peer} | {r.ratio.median:.2f} | {r.ratio.low:.2f} to "
            f"{r.ratio.high:.2f} | {r.at_least:g} | {'met' if r.met else 'not met'} |"
            for r in self.ratios
        ]
        return "\n".join(
            [
                "| contender | images/s | images per core-second | lowest to highest round |",
                "|---|---|---|---|",
                *rates,
                "",
                "| images per core-second | ratio | lowest to highest round | goal | |",
                "|---|---|---|---|---|",
                *ratios,
            ]
        )

    def draw(self, picture: Path) -> list[Path]:
        """A bar a contender -> `picture`.png and .svg."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 0.6 + 0.4 * len(self.rates)), layout="constrained")
        axes = figure.subplots()
        names = [rate.contender for rate in self.rates]
        spreads = [rate.images_per_core_s for rate in self.rates]
        bars = axes.barh(
            names,
            [spread.median for spread in spreads],
            xerr=[
                [spread.median - spread.low for spread in spreads],
                [spread.high - spread.median for spread in spreads],
            ],
            color=["C0" if name.startswith("ours") else "0.75" for name in names],
            error_kw={"lw": 0.9, "ecolor": "0.4"},
        )
        axes.bar_label(bars, fmt="{:,.0f}", padding=4)
        axes.invert_yaxis()
        axes.set(xlabel="images per core-second; median, lowest and highest round")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", alpha=0.25)
        axes.set_axisbelow(True)
        return save(figure, picture)
