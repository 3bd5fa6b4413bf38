"""A run's curves as a picture."""

import json
from pathlib import Path

from trainer.config import RunError


def draw_curves(metrics: Path, picture: Path) -> list[Path]:
    """Loss and top-1 over epochs from a run's metrics.jsonl -> `picture`.png and .svg."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    try:
        events = [json.loads(line) for line in metrics.read_text().splitlines()]
    except OSError as error:
        raise RunError(f"{metrics}: {error.strerror}; is the name that of a run?") from None
    # A resumed run repeats what came after its last checkpoint; the later line holds.
    train = {event["step"]: event for event in events if event["kind"] == "train"}
    val = {event["step"]: event for event in events if event.get("views") == 1}
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot([e["epoch"] for e in train.values()], [e["loss"] for e in train.values()], lw=0.9)
    left.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
    right.plot(
        [e["epoch"] for e in train.values()],
        [e["top1"] for e in train.values()],
        lw=0.7,
        alpha=0.6,
        label="training batches, dropout on",
    )
    right.plot(
        [e["epoch"] for e in val.values()],
        [e["top1"] / e["pictures"] for e in val.values()],
        "o-",
        ms=3,
        label="validation, 1 view",
    )
    right.set(xlabel="epoch", ylabel="top-1", ylim=(0, 1))
    right.legend(frameon=False, loc="lower right")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    picture.parent.mkdir(parents=True, exist_ok=True)
    paths = [picture.with_suffix(suffix) for suffix in (".png", ".svg")]
    for path in paths:
        figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return paths
