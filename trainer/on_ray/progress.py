"""What a run is doing: for people a live line on a terminal, a line an interval elsewhere; for
Prometheus gauges."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any

from tqdm import tqdm

from pipeline.dataset import Dataset
from trainer.on_ray.gauges import Gauges
from trainer.run import Run

LINE_INTERVAL_S = 10.0


class Display:
    """Follows a run's metrics file and shows what is new. A context manager."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._gauges = Gauges(run.name, run.recipe.epochs)
        self._samples = len(Dataset(run.data).train)
        self._follower = run.folder.follow()  # what a resumed run wrote before has been shown
        self._bar = tqdm(bar_format="{desc}", disable=not sys.stderr.isatty())
        self._said = 0.0
        self.step = 0
        """The last that was shown."""

    def __enter__(self) -> "Display":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.update(now=True)
        self._bar.close()
        self._follower.close()

    def update(self, now: bool = False) -> None:
        """Show what has been written since the last call; of what is in a store all of it only
        where it has to be `now`."""
        for event in self._written(now):
            self._gauges.take(event)
            if event["kind"] == "train":
                self.step = event["step"]
                self._show(self._training(event))
            else:
                self.say(self._validation(event))
        self._gauges.show()

    def _written(self, now: bool) -> Iterator[dict[str, Any]]:
        for line in self._follower.lines(now):
            with suppress(json.JSONDecodeError):  # a worker was killed while it wrote
                yield json.loads(line)

    def say(self, text: str) -> None:
        """A line that stays."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def _show(self, text: str) -> None:
        self._bar.set_description_str(text)
        if self._bar.disable and time.monotonic() - self._said >= LINE_INTERVAL_S:
            self._said = time.monotonic()
            self.say(text)

    def _training(self, event: dict[str, Any]) -> str:
        epochs = self._run.recipe.epochs
        damaged = f", {event['replaced']:,} damaged images replaced" if event["replaced"] else ""
        left_s = (epochs - event["epoch"]) * self._samples / event["images_per_s"]
        return (
            f"epoch {event['epoch']:.2f} of {epochs}, {event['images_per_s']:,.0f} images/s "
            f"({event['wait']:.0%} of the time waiting for images), "
            f"loss {event['loss']:.3f}, top-1 {event['top1']:.1%}, "
            f"{int(left_s // 60)}:{int(left_s % 60):02d} left{damaged}"
        )

    @staticmethod
    def _validation(event: dict[str, Any]) -> str:
        views = "1 view" if event["views"] == 1 else f"{event['views']} views"
        return (
            f"epoch {event['epoch']}: validation accuracy "
            f"top-1 {event['top1'] / event['pictures']:.2%}, "
            f"top-5 {event['top5'] / event['pictures']:.2%} "
            f"({event['pictures']:,} images, {views}), "
            f"mean of the classes {event['macro_top1']:.2%}"
        )
