"""Table 2: several networks as one, and networks that have been trained on more images before."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, ClassVar

from pipeline.dataset import Dataset
from pipeline.folds import write_classes
from trainer.paper.ensemble_trial import SEARCHED, STARRED, VIEWS, score_together, top_of
from trainer.paper.experiment import Experiment, Found, Outcome, Row, Table
from trainer.paper.finetune_trial import finetune_row
from trainer.paper.network_trial import Changes, network_row, published, recipe_of
from trainer.run import RunError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PRETRAINED = 2
"""Networks of those marked * in the paper's table."""
SIXTH: Changes = {"network.sixth_conv": True}
LINES = ("1 CNN", "CNNs", SEARCHED, "1 CNN*", "CNNs*", STARRED)
PAPER: Mapping[str, tuple[str, float, float]] = {
    "1 CNN": ("1 CNN", 40.7, 18.2),
    "CNNs": ("5 CNNs", 38.1, 16.4),
    "1 CNN*": ("1 CNN*", 39.0, 16.6),
    "CNNs*": ("7 CNNs*", 36.7, 15.4),
}
"""What stands in the paper's table on the same line: its name, top-1 and top-5 error on the
validation images, in percent."""
CLAIMS = (("CNNs", "1 CNN"), ("1 CNN*", "1 CNN"), ("CNNs*", "CNNs"), ("CNNs*", "1 CNN*"))
"""Lines of which the first has the lower error in the paper."""


@dataclass(frozen=True)
class Table2(Experiment):
    name: ClassVar[str] = "table2"
    title: ClassVar[str] = "Table 2: several networks, and networks that were pre-trained"

    dataset: Dataset
    task: Dataset
    """Of the first half of the classes."""
    base: Changes
    seeds: int
    models: Path
    """The folder of the trained networks."""

    @classmethod
    def of(cls, dataset: Dataset, base: Changes, seeds: int, work: Path) -> "Table2":
        """Writes the index of the task's images below `work`. Raises RunError where there are too
        few classes."""
        count = len(dataset.manifest.classes)
        if count < 3:
            raise RunError(
                f"{dataset.place}: table2 pre-trains on all classes for a task of some of "
                f"them, two at least, but there are {count}; give --data with three classes or more"
            )
        classes = max(2, count // 2)
        directory = work / "tasks" / f"{dataset.digest[:16]}-{classes}"
        task = write_classes(dataset, directory, classes)
        return cls(dataset, task, base, seeds, work / "models")

    def rows(self, found: Found) -> list[Row]:
        first = [*self._singles(), *self._before()]
        if any(found(row) is None for row in first):
            return first
        tuned = self._tuned(found)
        for row, before in zip(tuned, self._before(), strict=True):
            if found(row) is None:
                published(before, found, self.models)
        if any(found(row) is None for row in tuned):
            return [*first, *tuned]
        scored = self._scored(found)
        if found(scored) is None:
            for row in (*self._singles(), *tuned):
                published(row, found, self.models)
        return [*first, *tuned, scored]

    def outcome(self, found: Found) -> Outcome:
        result = found(self._scored(found))
        assert result is not None
        lines = {line: result["lines"][line] for line in LINES if line in result["lines"]}
        numbers = {
            "pictures": result["pictures"],
            "weights": result["weights"],
            "lines": {
                self._title(line): {
                    f"{views}": {
                        which: _spread(self._values(networks, views, which, result["pictures"]))
                        for which in ("top1", self._second)
                    }
                    for views in VIEWS
                }
                for line, networks in lines.items()
            },
            "paper": {title: {"top1": one, "top5": five} for title, one, five in PAPER.values()},
        }
        return Outcome(
            self._paragraphs(lines, numbers), numbers, self._table(lines, numbers),
            self._draw(lines, numbers, result["pictures"]),
        )  # fmt: skip

    def _singles(self) -> list[Row]:
        return [self._on_task(self._network("1 CNN", {}, seed)) for seed in range(self.seeds)]

    def _before(self) -> list[Row]:
        return [self._network("pre-training", SIXTH, seed) for seed in range(PRETRAINED)]

    def _tuned(self, found: Found) -> list[Row]:
        """The fine-tuning of the networks that are pre-trained by now."""
        rows = []
        for before in self._before():
            result = found(before)
            assert result is not None
            task = self._on_task(before)
            rows.append(finetune_row("1 CNN*", recipe_of(before), result["model"], task))
        return rows

    def _scored(self, found: Found) -> Row:
        settings = {
            "dataset": self.dataset.digest,
            "classes": len(self.task.manifest.classes),
            "models": _models(self._singles(), found),
            "pre-trained": _models(self._tuned(found), found),
        }
        return Row("all together", score_together, settings, self.task.place.absolute())

    def _network(self, name: str, changes: Changes, seed: int) -> Row:
        return network_row(name, {**self.base, **changes}, seed, self.dataset)

    def _on_task(self, row: Row) -> Row:
        """The same on the images of the task: named by the whole dataset, as the digest of the task
        depends on where that lies."""
        settings = {**row.settings, "classes": len(self.task.manifest.classes)}
        return replace(row, settings=settings, data=self.task.place.absolute())

    @property
    def _second(self) -> str:
        """What is told beside the top-1 error."""
        return "top5" if top_of(len(self.task.manifest.classes)) == 5 else "nll"

    def _title(self, line: str) -> str:
        count = self.seeds + PRETRAINED * line.startswith("CNNs*")
        return f"{count} {line}" if line.startswith("CNNs") else line

    def _values(
        self, networks: Sequence[Any], views: int, which: str, pictures: int
    ) -> list[float]:
        """Of each network: an error in percent, or the negative log-likelihood."""
        found = [s[which] for scores in networks for s in scores if s["views"] == views]
        return found if which == "nll" else [100 * (1 - right / pictures) for right in found]

    def _paragraphs(self, lines: Mapping[str, Any], numbers: Mapping[str, Any]) -> list[str]:
        error = {line: numbers["lines"][self._title(line)]["10"]["top1"] for line in lines}
        classes, every = (len(d.manifest.classes) for d in (self.task, self.dataset))
        told = []
        for line in lines:
            own, paper = error[line], PAPER.get(line)
            ends = f" ({own['low']:.1f} to {own['high']:.1f})" if own["low"] < own["high"] else ""
            beside = f", in the paper {paper[1]} ({paper[0]})" if paper else ""
            told.append(f"{self._title(line)} {own['mean']:.1f}{ends}{beside}")
        top = top_of(classes)
        said = [
            f"The task is {classes} of the {every} classes, with {len(self.task.train):,} training "
            f"and {len(self.task.val):,} validation images; networks marked * have a sixth "
            f"convolution and were trained on the {len(self.dataset.train):,} training images of "
            f"all {every} classes before. The paper's task has 1,000 classes, and its networks * "
            "were trained on 22,000. Top-1 errors by ten views, in percent: "
            f"{'; '.join(told)}.",
            f"Searched weights, as in 2012, are those with the fewest top-{top} errors that a "
            "search finds. It is tuned on the images that it sees: so the weights for each half of "
            "the validation images are searched on the other half, and no image is scored by "
            "weights that it helped to find.",
        ]
        if top == 1:
            said.append(
                "Among at most five classes no top-5 guess is wrong. So the mean negative "
                "log-likelihood of the right label stands beside the top-1 error, and the search "
                "lowers top-1 errors."
            )
        for better, worse in CLAIMS:
            if {better, worse} <= error.keys() and error[better]["mean"] >= error[worse]["mean"]:
                ours, theirs = PAPER[better], PAPER[worse]
                said.append(
                    f"The top-1 error of {self._title(better)} is not lower than that of "
                    f"{self._title(worse)} here, {error[better]['mean']:.1f} % and "
                    f"{error[worse]['mean']:.1f} %; the paper has {ours[1]} % and "
                    f"{theirs[1]} %."
                )
        return said

    def _table(self, lines: Mapping[str, Any], numbers: Mapping[str, Any]) -> Table:
        second = "top-5 error, %" if self._second == "top5" else "negative log-likelihood"
        head = (
            "network", "top-1 error by 1 view, %", f"{second} by 1 view",
            "top-1 error by 10 views, %", f"{second} by 10 views",
            "the paper's top-1 and top-5 errors, %",
        )  # fmt: skip
        rows = []
        for line in lines:
            found = numbers["lines"][self._title(line)]
            cells = [_cell(found[f"{v}"][w], w) for v in VIEWS for w in ("top1", self._second)]
            name, *errors = PAPER.get(line, ("",))
            paper = f"{' and '.join(map(str, errors))} ({name})" if name else ""
            rows.append((self._title(line), *cells, paper))
        return Table(head, rows)

    def _draw(
        self, lines: Mapping[str, Any], numbers: Mapping[str, Any], pictures: int
    ) -> "Figure":
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.6, 1))
        names = list(lines)[::-1]
        for place, line in enumerate(names):
            for views, colour, higher in zip(VIEWS, ("0.6", "C0"), (-0.13, 0.13), strict=True):
                found = numbers["lines"][self._title(line)][f"{views}"]["top1"]
                each = self._values(lines[line], views, "top1", pictures)
                left.plot(each, [place + higher] * len(each), "|", color=colour, ms=9)
                left.plot(found["mean"], place + higher, "o", color=colour, ms=6)
            if line in PAPER:
                right.plot(PAPER[line][1], place, "D", color="C1", mfc="none", ms=8)
        left.plot([], [], "o", color="0.6", label="one view")
        left.plot([], [], "o", color="C0", label="ten views; strokes: each network")
        left.set_yticks(range(len(names)), [self._title(line) for line in names])
        left.set(xlabel="top-1 error here, %", ylim=(-0.6, len(names) - 0.4))
        right.plot([], [], "D", color="C1", mfc="none", label="the paper, 1,000 classes")
        right.set(xlabel="top-1 error in the paper, %")
        for axes in (left, right):
            _finish(axes)
        figure.legend(frameon=False, loc="outside lower center", ncols=3, fontsize="small")
        return figure


def _models(rows: Sequence[Row], found: Found) -> list[str]:
    results = [found(row) for row in rows]
    return [result["model"] for result in results if result is not None]


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": mean(values), "low": min(values), "high": max(values)}


def _cell(found: Mapping[str, float], which: str) -> str:
    """The mean, and the lowest to the highest where there are several networks."""
    digits = 3 if which == "nll" else 1
    ends = f" ({found['low']:.{digits}f} to {found['high']:.{digits}f})"
    return f"{found['mean']:.{digits}f}" + (ends if found["low"] < found["high"] else "")


def _finish(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, axis="x")
