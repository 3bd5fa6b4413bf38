"""Accuracy by photographs, as an image."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from tests.benchmarks.transfer.rows import CONTENDERS, Row, accuracies
from trainer.report import save


def draw(rows: Sequence[Row], image: Path) -> list[Path]:
    """A line of means and a dot a seed for each contender -> `image`.png and .svg."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    for contender, colour in zip(CONTENDERS, ("C0", "0.5"), strict=True):
        found = accuracies(rows, contender)
        axes.plot(
            list(found), [mean(own) for own in found.values()], color=colour,
            label=f"{contender}, mean of the seeds",
        )  # fmt: skip
        dots = [(count, one) for count, own in found.items() for one in own]
        axes.plot(*zip(*dots, strict=True), "o", ms=4, alpha=0.7, color=colour, mew=0)
    counts = sorted({row.photographs for row in rows})
    axes.set(
        xlabel="training photographs of each class",
        ylabel="top-1 accuracy, 10 views",
        xscale="log",
        ylim=(None, 1),
    )
    axes.set_xticks(counts, [f"{count}" for count in counts])
    axes.minorticks_off()
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    return save(figure, image)
