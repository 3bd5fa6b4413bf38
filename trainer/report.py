"""A run's curves as an image."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from alexnet.store.url import Place
from trainer.run import events

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Events = list[dict[str, Any]]


def draw_curves(metrics: Place, image: Path) -> list[Path]:
    """Draw loss, top-1 and learning rate over epochs, from a run's metrics, into `image`.png
    and .svg; returns both paths."""
    from matplotlib.figure import Figure

    train, val = history(metrics)
    epochs = [event["epoch"] for event in train]
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.plot(epochs, [event["loss"] for event in train], lw=0.9)
    left.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    middle.plot(
        epochs,
        [event["top1"] for event in train],
        lw=0.7,
        alpha=0.6,
        label="training batches, dropout on",
    )
    middle.plot(
        [event["epoch"] for event in val],
        [event["top1"] / event["pictures"] for event in val],
        "o-",
        ms=3,
        label="validation, 1 view",
    )
    if any("macro_top1" in event for event in val):  # runs of earlier versions have none
        middle.plot(
            [event["epoch"] for event in val],
            [event.get("macro_top1") for event in val],
            "--",
            lw=0.9,
            label="the same, mean of the classes",
        )
    middle.set(xlabel="epoch", ylabel="top-1 accuracy", ylim=(0, 1))
    middle.legend(frameon=False, loc="lower right")
    right.plot(epochs, [event["rate"] for event in train], lw=1.2)
    right.set(xlabel="epoch", ylabel="learning rate of the weights", yscale="log")
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return save(figure, image)


def save(figure: "Figure", image: Path) -> list[Path]:
    """Write `image`.png for pages and `image`.svg for print."""
    image.parent.mkdir(parents=True, exist_ok=True)
    paths = [image.with_suffix(suffix) for suffix in (".png", ".svg")]
    for path in paths:
        figure.savefig(path, dpi=130)
    return paths


def history(metrics: Place) -> tuple[Events, Events]:
    """(training, one-view validation) events in the order of their steps. A run that went on from
    a checkpoint repeats the steps after it; the later account holds. Raises RunError."""
    kept: Events = []
    for event in events(metrics):
        while kept and _place(kept[-1]) >= _place(event):
            kept.pop()
        kept.append(event)
    train = [event for event in kept if event["kind"] == "train"]
    val = {event["step"]: event for event in kept if event.get("views") == 1}
    return train, list(val.values())


def _place(event: dict[str, Any]) -> tuple[int, str, int]:
    return event["step"], event["kind"], event.get("views", 0)
