"""python -m tests.benchmarks.serving: our server beside what others would write.

In every round each contender is started anew, with the machine to itself. The CPU time that counts
is that of all its processes, without the load generator's.
"""

import re
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Literal

from pydantic import Field
from typer import Argument

from alexnet.command import UserError
from tests.benchmarks.harness import (
    Goal,
    Measurement,
    Network,
    Spread,
    in_own_process,
    measure,
    report,
    run,
    table,
)
from tests.benchmarks.serving import trial
from tests.benchmarks.serving.alone import alone
from tests.benchmarks.serving.batching import BATCH_TIMEOUT_S, MAX_BATCH_IMAGES
from tests.benchmarks.serving.load import Answer, ask, closed_loop, multipart, open_loop
from tests.benchmarks.serving.process import Memory, Server

VIEWS = 10
WARM_UP_S = 0.5
"""Time for which connections send what is not counted."""
LOAD = 0.7
"""Part of what the naive server can do: the rate at which latencies are compared."""
LATENCY_LENGTH = 3
"""Length in other measurements: a 99th percentile takes more requests than a mean."""

OURS, ALONE = "ours", "our predictor alone"
NAIVE, BATCHING = "FastAPI, eager torch", "LitServe, eager torch"
EQUAL = "LitServe, our predictor"
FRONT, UPLOAD = "ours, no model", "FastAPI, no model"
DECODING_FRONT, DECODING_UPLOAD = "ours, decoding only", "FastAPI, decoding only"

PEERS = "tests.benchmarks.serving"
COMMANDS = {
    OURS: ("serving",),
    NAIVE: (f"{PEERS}.contenders", "naive"),
    BATCHING: (f"{PEERS}.batching", "typical"),
    EQUAL: (f"{PEERS}.batching", "ours"),
    FRONT: (f"{PEERS}.stub",),
    UPLOAD: (f"{PEERS}.contenders", "upload"),
    DECODING_FRONT: (f"{PEERS}.stub", "--decoding"),
    DECODING_UPLOAD: (f"{PEERS}.contenders", "decoded-upload"),
}
"""What is run with `python -m`."""
READY = {
    "serving": "/readyz",
    f"{PEERS}.stub": "/readyz",
    f"{PEERS}.batching": "/health",
    f"{PEERS}.contenders": "/openapi.json",
}
"""Path that answers 200 once a server is ready."""

GOALS = (
    Goal(OURS, NAIVE, 3.0),
    Goal(OURS, BATCHING, 2.0),
    Goal(OURS, EQUAL, 1.1),
    Goal(NAIVE, OURS, 2.0, "p99_s", "seconds that 99 % take at equal load"),
    Goal(OURS, ALONE, 0.9, what="views per core-second"),
    Goal(OURS, ALONE, 0.9, "per_s", "views per second"),
    Goal(FRONT, UPLOAD, 1.5),
    Goal(DECODING_FRONT, DECODING_UPLOAD, None),
)


class Serving(Network):
    """Measure our server beside what others would write, under the same requests."""

    parts: Annotated[tuple[Literal["answers", "front"], ...], Argument()] = ("answers", "front")
    """answers: the server with a model. front: the front end without one."""
    rounds: int = Field(5, ge=1)
    """Visits to each server."""
    seconds: float = Field(4.0, gt=0)
    """How long each visit asks."""
    connections: int = Field(16, ge=1)
    """Connections that ask at the same time."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("serving", Serving, bench, arguments)


@dataclass
class Visit(Measurement):
    """What one contender showed in one round."""

    cold_start_s: float = 0.0
    idle: list[Memory] = field(default_factory=list)
    """Memory of each process before the first request."""
    loaded: list[Memory] = field(default_factory=list)
    """Memory of each process after the measurement."""
    batch_images: float = 0.0
    """Mean images of a forward pass of ours."""
    latency_s: list[float] = field(default_factory=list)
    """Latencies of ours and of the naive server, at one rate for both."""
    decode_s: float = 0.0
    """CPU time of making one photograph ready. Of the predictor alone."""

    @property
    def p99_s(self) -> float:
        return percentile(self.latency_s, 99)


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[ceil(len(ordered) * percent / 100) - 1]


@dataclass(frozen=True)
class Round:
    """All contenders once."""

    options: Serving
    model: Path
    truth: trial.Truth
    requests: list[bytes]
    number: int

    def visits(self) -> Iterator[tuple[str, Visit]]:
        for part in self.options.parts:
            yield from self._answers() if part == "answers" else self._front()

    def _answers(self) -> Iterator[tuple[str, Visit]]:
        """Measure with the model. The naive server comes first: from its rate follows the load."""
        rate_per_s = 0.0
        for name in (NAIVE, OURS, BATCHING, EQUAL):
            with self._server(name) as server:
                visit = self._visit(name, server, self.truth)
                rate_per_s = rate_per_s or LOAD * visit.per_s
                if name in (NAIVE, OURS):
                    asking = open_loop(
                        server.port, self.requests, rate_per_s,
                        LATENCY_LENGTH * self.options.seconds, seed=self.number,
                    )  # fmt: skip
                    answers = _right(name, ask(asking), self.truth)
                    visit.latency_s = [answer.latency_s for answer in answers]
            yield name, visit
            if name == OURS:
                measurement, decode_s = in_own_process(
                    alone, self.model, visit.batch_images, self.options.seconds
                )
                yield ALONE, Visit(**asdict(measurement), decode_s=decode_s)

    def _front(self) -> Iterator[tuple[str, Visit]]:
        """Measure without a model: the servers answer the same to everything."""
        for name in (FRONT, UPLOAD, DECODING_FRONT, DECODING_UPLOAD):
            with self._server(name) as server:
                yield name, self._visit(name, server, None)

    def _server(self, name: str) -> Server:
        module, *words = COMMANDS[name]
        return Server(module, *words, "--model", self.model, ready=READY[module])

    def _visit(self, name: str, server: Server, truth: trial.Truth | None) -> Visit:
        idle = server.memory()
        _right(name, self._closed_loop(server, WARM_UP_S), truth)
        batches = _batches(server) if name == OURS else (0, 0)
        start_s, before_s = time.perf_counter(), server.cpu_s()
        answers = self._closed_loop(server, self.options.seconds)
        wall_s, cpu_s = time.perf_counter() - start_s, server.cpu_s() - before_s
        _right(name, answers, truth)
        visit = Visit(len(answers), wall_s, cpu_s, server.cold_start_s, idle, server.memory())
        if name == OURS:
            views, count = (now - then for now, then in zip(_batches(server), batches, strict=True))
            visit.batch_images = views / VIEWS / count
        return visit

    def _closed_loop(self, server: Server, seconds: float) -> list[Answer]:
        connections = self.options.connections
        return ask(closed_loop(server.port, self.requests, connections, seconds))


def _right(name: str, answers: list[Answer], truth: trial.Truth | None) -> list[Answer]:
    """Raises UserError if any is wrong; without a truth, if any is a refusal."""
    for answer in answers:
        if flaw := truth.flaw(answer) if truth else trial.refusal(answer):
            raise UserError(f"{name}: a wrong answer, nothing is worth measuring: {flaw}")
    return answers


def _batches(server: Server) -> tuple[float, float]:
    """Views that were in batches so far, and batches."""
    text = server.get("/metrics")[1].decode()
    found = dict(re.findall(r"^serving_batch_views_(sum|count) (\S+)", text, re.MULTILINE))
    return float(found["sum"]), float(found["count"])


def bench(options: Serving) -> int:
    with tempfile.TemporaryDirectory(prefix="bench.") as folder:
        made = trial.publish(Path(folder), options.network, seed=0)
        jpegs = trial.photographs()
        requests = [multipart("/classify", jpeg) for jpeg in jpegs]
        model, truth = Path(folder) / trial.NAME, trial.Truth(made, jpegs)
        visits: dict[str, list[Visit]] = measure(
            options.rounds,
            lambda number: Round(options, model, truth, requests, number).visits(),
        )
    texts = [
        _latency_table(visits),
        _start_table(visits),
        f"{options.connections} connections, JPEGs of {fmean(map(len, jpegs)) / 1000:.0f} KB, ten "
        f"views, a network of width {options.width:g} and {options.classes} classes",
    ]
    if ALONE in visits:
        pairs = list(zip(visits[OURS], visits[ALONE], strict=True))
        share = Spread.of(predictor.decode_s * ours.per_core_s for ours, predictor in pairs)
        texts += [
            f"ours: {median(ours.batch_images for ours, _ in pairs):.1f} images a batch; "
            f"decoding is {share.median:.1%} ({share.low:.1%} to {share.high:.1%}) of its CPU time",
            f"LitServe: up to {MAX_BATCH_IMAGES} images a batch, {BATCH_TIMEOUT_S} s for it",
        ]
    report("requests", visits, GOALS, options, texts)
    return 0


def _latency_table(visits: dict[str, list[Visit]]) -> str:
    """All rounds together."""
    rows = []
    for name, own in visits.items():
        if values := [1000 * value for visit in own for value in visit.latency_s]:
            half, most = percentile(values, 50), percentile(values, 99)
            rows.append((name, f"{len(values):,}", f"{half:,.0f}", f"{most:,.0f}"))
    return table(("contender", "requests", "median, ms", "99 % within, ms"), rows)


def _start_table(visits: dict[str, list[Visit]]) -> str:
    """Medians of the rounds; pages that processes share count once, but for the last column."""
    rows = []
    for name, own in visits.items():
        if servers := [visit for visit in own if visit.idle]:
            start_s, span_s = Spread.of(visit.cold_start_s for visit in servers).cells(".1f")
            idle, loaded = (
                median(sum(of.proportional_bytes for of in memories) for memories in each) / 2**20
                for each in ([v.idle for v in servers], [v.loaded for v in servers])
            )
            each = ", ".join(f"{of.resident_bytes / 2**20:,.0f}" for of in servers[-1].loaded)
            rows.append((name, f"{start_s} ({span_s})", f"{idle:,.0f}", f"{loaded:,.0f}", each))
    return table(
        (
            "contender", "start to ready, s", "idle, MiB", "after load, MiB",
            "resident of each process, MiB",
        ),
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
