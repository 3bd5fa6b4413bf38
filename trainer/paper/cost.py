"""Cost: the hours that 90 epochs of ILSVRC-2012 take, here and elsewhere, then and since."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pipeline.dataset import Dataset
from trainer.paper.experiment import Experiment, Found, Outcome, Row, Settings, Table
from trainer.paper.network_trial import Changes, recipe_of
from trainer.paper.speed_trial import speed_row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

IMAGES, EPOCHS = 1_281_167, 90
"""Of ILSVRC-2012's training images, and of the paper (§5)."""


class Training(NamedTuple):
    """So many epochs of ILSVRC-2012 on a machine, by any network of the kind."""

    machine: str
    hours: float
    epochs: int
    source: str

    @property
    def images_per_s(self) -> float:
        return self.epochs * IMAGES / self.hours / 3600


PUBLISHED = (
    Training("two GTX 580, 2012", 5.5 * 24, EPOCHS, "five to six days, the paper, §5"),
    Training("512 Xeon Phi, 2017", 24 / 60, 100, "You et al., arXiv 1709.05011"),
    Training("1,024 Tesla P40, 2018", 4 / 60, 95, "Jia et al., arXiv 1807.11205"),
    Training("512 Tesla V100, 2019", 1.5 / 60, 95, "Sun et al., arXiv 1902.06855"),
)
SECONDS = {"quick": 3.0, "full": 120.0}


@dataclass(frozen=True)
class Cost(Experiment):
    name: ClassVar[str] = "cost"
    title: ClassVar[str] = "What 90 epochs of ImageNet take"

    dataset: Dataset
    base: Changes
    seconds: float
    machine: Settings
    """This one, as in a row."""
    elsewhere: Sequence[Settings] = ()
    """Machines whose rows may lie in the same folder."""

    def rows(self, found: Found) -> list[Row]:
        own = self._row(self.machine)
        others = [self._row(machine) for machine in self.elsewhere if machine != self.machine]
        return [own, *(row for row in others if found(row))]

    def outcome(self, found: Found) -> Outcome:
        measured = [self._measured(row, found) for row in self.rows(found)]
        hours = {each.machine: each.hours for each in measured}
        missing = ["eight GPUs"]
        if not any(row.settings["machine"]["gpus"] for row in self.rows(found)):
            missing.insert(0, "one GPU")
        table = [_line(each) for each in measured]
        table += [(machine, "", "not measured", "", "") for machine in missing]
        table += [_line(each) for each in PUBLISHED]
        head = ("machine", "images/s", "time", "epochs", "from")
        return Outcome(
            [self._paragraph(measured[0], missing)],
            {"images": IMAGES, "epochs": EPOCHS, "hours": hours},
            Table(head, table),
            _draw([*measured, *PUBLISHED], len(measured)),
        )

    def _row(self, machine: Settings) -> Row:
        return speed_row(self.base, self.seconds, machine, self.dataset)

    def _measured(self, row: Row, found: Found) -> Training:
        result = found(row)
        assert result is not None
        hours = EPOCHS * IMAGES / 3600 * result["seconds"] / result["images"]
        source = f"measured in {result['seconds']:.0f} s, {result['waiting']:.1%} of it for images"
        return Training(row.name, hours, EPOCHS, source)

    def _paragraph(self, own: Training, missing: Sequence[str]) -> str:
        recipe = recipe_of(self._row(self.machine))
        then = PUBLISHED[0]
        return (
            f"A network of width {recipe.network.width:g} on crops of {recipe.network.crop} "
            f"pixels, in batches of {recipe.batch}: {own.machine} trained on "
            f"{own.images_per_s:,.1f} images/s, all decoding included. {EPOCHS} epochs of "
            f"{IMAGES:,} images would take {_time(own.hours)}, without validation; the paper's "
            f"took five to six days, on {then.machine}. Not measured, and so not "
            f"estimated: {', '.join(missing)}. The records of 2017 to 2019 train in batches of up "
            "to 65,536 images, by other rules than those of 2012."
        )


def _line(training: Training) -> tuple[str, ...]:
    speed = f"{training.images_per_s:,.0f}"
    return training.machine, speed, _time(training.hours), str(training.epochs), training.source


def _time(hours: float) -> str:
    """1.5 minutes, 15 hours, 5.5 days."""
    for unit, size in (("days", 24.0), ("hours", 1.0)):
        if hours >= 2 * size:
            return f"{hours / size:.1f} {unit}"
    return f"{60 * hours:.1f} minutes"


def _draw(trainings: Sequence[Training], measured: int) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 0.8 + 0.45 * len(trainings)), layout="constrained")
    axes = figure.subplots()
    places = range(len(trainings))[::-1]
    hours = [training.hours for training in trainings]
    colours = ["C0"] * measured + ["0.6"] * (len(trainings) - measured)
    bars = axes.barh(places, hours, color=colours, height=0.6)
    axes.bar_label(bars, [_time(hour) for hour in hours], padding=4, fontsize="small")
    axes.set_yticks(places, [training.machine for training in trainings])
    axes.set(xlabel="hours (blue: measured here)", xscale="log", xlim=(None, 6 * max(hours)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, axis="x")
    return figure
