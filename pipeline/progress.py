"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time

from tqdm import tqdm

LINE_INTERVAL_S = 5.0


class ProgressBar:
    """Counts towards `total`. A context manager; the last state is always shown."""

    def __init__(self, what: str, total: int, unit: str, done: int = 0) -> None:
        """`done` is what was there before, and is not counted in the speed."""
        hidden = not sys.stderr.isatty()
        self._bar = tqdm(desc=what, total=total, unit=unit, initial=done, disable=hidden)
        self._what, self._total, self._unit = what, total, unit
        self._before, self._done = done, done
        self._start = self._said = time.monotonic()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._say()

    def advance(self, count: int) -> None:
        self._done += count
        self._bar.update(count)
        if time.monotonic() - self._said >= LINE_INTERVAL_S and self._done < self._total:
            self._say()

    def _say(self) -> None:
        if not self._bar.disable:
            return
        self._said = time.monotonic()
        rate = max(self._done - self._before, 0) / max(self._said - self._start, 1e-9)
        left_s = (self._total - self._done) / rate if rate else 0
        speed = f", {rate:,.0f} {self._unit}/s, {left_s:.0f} s left" if rate else ""
        print(f"{self._what}: {self._done:,} of {self._total:,} {self._unit}{speed}", flush=True)
