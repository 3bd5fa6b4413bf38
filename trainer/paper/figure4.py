"""Figure 4: what the network says of some images, and which images it finds alike (§6.1)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from textwrap import shorten
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.dataset import Dataset
from pipeline.split import Split
from trainer.paper.experiment import Experiment, Found, Outcome, Row, Table
from trainer.paper.look_trial import GUESSES, look, picture
from trainer.paper.network_trial import Changes, network_row, published

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

GUESSED, QUERIES, NEIGHBOURS = 8, 5, 6
PAPER = {"top1": 4, "top5": 6}
"""Of the eight images in the paper's figure."""
RIGHT, OTHER = "C1", "#9dbcd8"
Described = Mapping[str, Any]
"""An image with what was found, as `look` gives it."""


@dataclass(frozen=True)
class Figure4(Experiment):
    name: ClassVar[str] = "figure4"
    title: ClassVar[str] = "Figure 4: five guesses, six neighbours"

    dataset: Dataset
    base: Changes
    models: Path
    """The folder of the trained networks."""

    def rows(self, found: Found) -> list[Row]:
        network = network_row("as in the paper", self.base, 0, self.dataset)
        result = found(network)
        if result is None:
            return [network]
        settings = {
            "dataset": self.dataset.digest, "model": result["model"], "guessed": GUESSED,
            "queries": QUERIES, "neighbours": NEIGHBOURS,
        }  # fmt: skip
        looked = Row("its guesses and neighbours", look, settings, self.dataset.place.absolute())
        if found(looked) is None:
            published(network, found, self.models)
        return [network, looked]

    def outcome(self, found: Found) -> Outcome:
        result = found(self.rows(found)[-1])
        assert result is not None
        guesses, queries, validation = (result[n] for n in ("guesses", "queries", "validation"))
        near = [n["label"] == query["label"] for query in queries for n in query["neighbours"]]
        share_K = self.dataset.train_counts() / len(self.dataset.train)
        numbers = {
            "guessed": {
                "pictures": len(guesses),
                "top1": _right(guesses, 1),
                "top5": _right(guesses, GUESSES),
            },
            "neighbours": {
                "pictures": len(near),
                "same": sum(near),
                "chance": len(near) * mean(float(share_K[query["label"]]) for query in queries),
            },
            "validation": validation,
            "paper": PAPER,
        }  # fmt: skip
        return Outcome(
            self._paragraphs(numbers), numbers, self._table(guesses, queries),
            self._draw(guesses, queries),
        )  # fmt: skip

    def _paragraphs(self, numbers: Mapping[str, Mapping[str, float]]) -> list[str]:
        guessed, near, every = (numbers[n] for n in ("guessed", "neighbours", "validation"))
        classes = len(self.dataset.manifest.classes)
        few = ", as it must be among so few classes" if classes <= GUESSES else ""
        same, chance = (100 * every[share] for share in ("same", "chance"))
        said = (
            f"The network as in the paper, with seed 0 and {len(self.dataset.train):,} training "
            f"images of {classes} classes, is shown validation images that are drawn at random, "
            "from as many classes as can be, whatever it says of them. By ten views its best guess "
            f"is right for {guessed['top1']} of {guessed['pictures']}, and the label is among its "
            f"five best for {guessed['top5']}{few}; in the paper's figure, of other images, that "
            f"is so for {PAPER['top1']} and {PAPER['top5']} of {GUESSED}. Of the "
            f"{near['pictures']} training images that are nearest to {QUERIES} others in fc7, "
            f"{near['same']} are of the class of their image; of training images taken by chance "
            f"{near['chance']:.1f} would be. Over all {every['pictures']:,} validation images "
            f"{same:.1f} % of {NEIGHBOURS} neighbours are of the same class, by chance "
            f"{chance:.1f} %."
        )
        if every["same"] > every["chance"]:
            return [said]
        return [
            said,
            "The paper calls images alike whose distance in the last hidden layer is small. Here "
            "the nearest images are of the same class no more often than any others.",
        ]

    def _table(self, guesses: Sequence[Described], queries: Sequence[Described]) -> Table:
        said = [self._list((k, f"{p:.0%}") for k, p in i["guesses"]) for i in guesses]
        near = [
            self._list((n["label"], f"{n['distance']:.3g}") for n in i["neighbours"])
            for i in queries
        ]
        rows = [
            (image["name"], self._name(image["label"]), text)
            for image, text in zip([*guesses, *queries], [*said, *near], strict=True)
        ]
        return Table(
            ("image", "label", "probabilities of guesses, or distances of neighbours"), rows
        )

    def _list(self, found: Iterable[tuple[int, str]]) -> str:
        return ", ".join(f"{self._name(label)} {value}" for label, value in found)

    def _name(self, label: int) -> str:
        """The first name of a class."""
        return self.dataset.manifest.classes[label].name.split(",")[0]

    def _draw(self, guesses: Sequence[Described], queries: Sequence[Described]) -> "Figure":
        from matplotlib.figure import Figure

        figure = Figure(figsize=(13, 6), layout="constrained")
        left, right = figure.subfigures(1, 2, width_ratios=(0.85, 1), wspace=0.03, squeeze=False)[0]
        self._draw_guesses(left, guesses)
        self._draw_neighbours(right, queries)
        return figure

    def _draw_guesses(self, part: "SubFigure", guesses: Sequence[Described]) -> None:
        columns = GUESSED // 2
        part.suptitle("the label below each image, and its bar in orange", fontsize="medium")
        grid = part.subplots(4, columns, height_ratios=(1.25, 1) * 2)
        for axes in grid.flat:
            axes.set_axis_off()
        for place, image in enumerate(guesses):
            row, column = divmod(place, columns)
            upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
            self._show(upper, self.dataset.val, image)
            lower.set_axis_on()
            lower.set_title(self._short(image["label"]), fontsize="small", weight="bold")
            for y, (label, probability) in enumerate(image["guesses"]):
                colour = RIGHT if label == image["label"] else OTHER
                lower.barh(y, probability, color=colour, height=0.86)
                lower.text(0.02, y, self._short(label), va="center", fontsize="x-small")
            lower.set(xlim=(0, 1), ylim=(GUESSES - 0.5, -0.5), xticks=(), yticks=())
            lower.spines[["top", "right", "bottom"]].set_visible(False)

    def _draw_neighbours(self, part: "SubFigure", queries: Sequence[Described]) -> None:
        part.suptitle(
            "a validation image, and its six neighbours; framed: of its class", fontsize="medium"
        )
        grid = part.subplots(
            QUERIES, 2 + NEIGHBOURS, width_ratios=(1, 0.15, *(1,) * NEIGHBOURS), squeeze=False
        )
        for axes in grid.flat:
            axes.set_axis_off()
        for row, query in zip(grid, queries, strict=False):
            self._show(row[0], self.dataset.val, query)
            for axes, near in zip(row[2:], query["neighbours"], strict=False):
                self._show(axes, self.dataset.train, near)
                if near["label"] == query["label"]:
                    axes.set_axis_on()
                    axes.set(xticks=(), yticks=())
                    for spine in axes.spines.values():
                        spine.set(color=RIGHT, linewidth=2.5)

    def _show(self, axes: "Axes", split: Split, image: Described) -> None:
        axes.imshow(picture(split, image["image"], self.dataset.manifest.size))

    def _short(self, label: int) -> str:
        return shorten(self._name(label), 20, placeholder="…")


def _right(guesses: Sequence[Described], best: int) -> int:
    """For how many images the label is among so many best guesses."""
    return sum(i["label"] in [label for label, _ in i["guesses"][:best]] for i in guesses)
