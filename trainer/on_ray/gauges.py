"""How a run stands, as gauges that Ray shows to Prometheus on its head's metrics port.

Prometheus knows them as ray_trainer_..., with the label `run`. They go half a minute after the run.
"""

import time
from typing import Any

TRAIN = {
    "epoch": "Epochs trained, with the fraction of the current one.",
    "step": "Updates of the weights.",
    "loss": "Mean cross-entropy of the latest batches.",
    "rate": "Learning rate of the weights.",
    "gradient_norm": "Norm of the gradient of the latest batch, over all parameters.",
    "images_per_s": "Training images per second, of all workers together.",
    "wait": "Fraction of the workers' time spent waiting for images, 0 to 1.",
    "workers": "Processes that share each batch.",
    "replaced": "Damaged images of this epoch that were replaced by others.",
}
"""Fields of a train event of metrics.jsonl, each a gauge."""
OWN = {
    "epochs": "Epochs that the run is to train.",
    "progress_timestamp_seconds": "Time of the last report of progress.",
}


class Gauges:
    """Works only in a process that is connected to Ray."""

    def __init__(self, run: str, epochs: int) -> None:
        from ray.util.metrics import Gauge

        self._gauges = {
            name: Gauge(f"trainer_{name}", description, tag_keys=("run",))
            for name, description in (TRAIN | OWN).items()
        }
        self._error = Gauge(
            "trainer_error",
            "Fraction of the images that are classified wrongly, 0 to 1.",
            tag_keys=("run", "split", "top", "views"),
        )
        self._run = run
        self._values = {"epochs": epochs, "progress_timestamp_seconds": time.time()}
        self._errors: dict[tuple[str, str, str], float] = {}

    def take(self, event: dict[str, Any]) -> None:
        """An event of metrics.jsonl."""
        self._values["progress_timestamp_seconds"] = event["time"]
        if event["kind"] == "train":
            self._values |= {name: event[name] for name in TRAIN}
            self._errors["train", "1", "1"] = 1 - event["top1"]
        else:
            for top in ("1", "5"):
                wrong = 1 - event[f"top{top}"] / event["pictures"]
                self._errors["validation", top, str(event["views"])] = wrong

    def show(self) -> None:
        """Set all gauges anew: Ray forgets one that has not been set for a while, so this is to be
        called every few seconds."""
        for name, value in self._values.items():
            self._gauges[name].set(value, {"run": self._run})
        for (split, top, views), value in self._errors.items():
            tags = {"run": self._run, "split": split, "top": top, "views": views}
            self._error.set(value, tags)
