"""python -m serving.bench: our server beside what others would write, under the same requests.

In every round each contender is started anew, with the machine to itself. What counts is requests
per second of CPU time over all its processes, without the load generator's, and the ratio of two
contenders within a round: other work on the machine moves both alike.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median

from alexnet.benchmark import Spread, machine
from alexnet.command import Parser, UserError, run
from serving.bench import scores, trial
from serving.bench.batching import BATCH_TIMEOUT_S, MAX_BATCH_PICTURES
from serving.bench.load import Answer, ask, closed_loop, multipart, open_loop
from serving.bench.process import Server
from serving.bench.scores import Goal, Visit, Visits, Window, p99_s, per_core_s, per_s

VIEWS = 10
WARM_UP_S = 0.5
"""So long connections send what is not counted."""
LOAD = 0.7
"""Of what the naive server can do: the rate at which latencies are compared."""
LATENCY_WINDOWS = 3
"""As long as so many of the others: a 99th percentile takes more requests than a rate."""
PACKAGES = ("torch", "fastapi", "uvicorn", "litserve", "pillow", "psutil")

OURS, ALONE = "ours", "our predictor alone"
NAIVE, BATCHING = "FastAPI, eager torch", "LitServe, eager torch"
EQUAL = "LitServe, our predictor"
FRONT, UPLOAD = "ours, no model", "FastAPI, no model"
DECODING_FRONT, DECODING_UPLOAD = "ours, decoding only", "FastAPI, decoding only"

COMMANDS = {
    OURS: ("serving",),
    NAIVE: ("serving.bench.contenders", "naive"),
    BATCHING: ("serving.bench.batching", "typical"),
    EQUAL: ("serving.bench.batching", "ours"),
    FRONT: ("serving.bench.stub",),
    UPLOAD: ("serving.bench.contenders", "upload"),
    DECODING_FRONT: ("serving.bench.stub", "--decoding"),
    DECODING_UPLOAD: ("serving.bench.contenders", "decoded-upload"),
}
"""What is run with `python -m`."""
READY = {
    "serving": "/readyz",
    "serving.bench.stub": "/readyz",
    "serving.bench.batching": "/health",
}
"""Path that answers 200 once a server is ready; else any that it has."""

GOALS = (
    Goal("requests per core-second", per_core_s, OURS, NAIVE, 3.0),
    Goal("requests per core-second", per_core_s, OURS, BATCHING, 2.0),
    Goal("requests per core-second", per_core_s, OURS, EQUAL, 1.1),
    Goal("seconds that 99 % take at equal load", p99_s, NAIVE, OURS, 2.0),
    Goal("views per core-second", per_core_s, OURS, ALONE, 0.9),
    Goal("views per second", per_s, OURS, ALONE, 0.9),
    Goal("requests per core-second", per_core_s, FRONT, UPLOAD, 1.5),
    Goal("requests per core-second", per_core_s, DECODING_FRONT, DECODING_UPLOAD, None),
)


def main(arguments: list[str] | None = None) -> int:
    return run(_parser(), arguments)


@dataclass(frozen=True)
class Round:
    """All contenders once."""

    options: argparse.Namespace
    model: Path
    truth: trial.Truth
    requests: list[bytes]
    number: int

    def answers(self) -> Iterator[tuple[str, Visit]]:
        """With the model. The naive server comes first: from its rate follows the equal load."""
        rate_per_s = 0.0
        for name in (NAIVE, OURS, BATCHING, EQUAL):
            with self._server(name) as server:
                visit = self._visit(name, server, self.truth)
                rate_per_s = rate_per_s or LOAD * per_s(visit)
                if name in (NAIVE, OURS):
                    asking = open_loop(
                        server.port, self.requests, rate_per_s,
                        LATENCY_WINDOWS * self.options.seconds, seed=self.number,
                    )  # fmt: skip
                    answers = _right(name, ask(asking), self.truth)
                    visit.latency_s = [answer.latency_s for answer in answers]
            yield name, visit
            if name == OURS:
                yield ALONE, self._alone(visit.batch_pictures)

    def front(self) -> Iterator[tuple[str, Visit]]:
        """Without a model, which answers the same to everything."""
        for name in (FRONT, UPLOAD, DECODING_FRONT, DECODING_UPLOAD):
            with self._server(name) as server:
                yield name, self._visit(name, server, None)

    def _server(self, name: str) -> Server:
        module, *words = COMMANDS[name]
        ready = READY.get(module, "/openapi.json")
        return Server(module, *words, "--model", self.model, ready=ready)

    def _visit(self, name: str, server: Server, truth: trial.Truth | None) -> Visit:
        idle = server.memory()
        _right(name, self._closed_loop(server, WARM_UP_S), truth)
        batches = _batches(server) if name == OURS else (0, 0)
        start_s, before_s = time.perf_counter(), server.cpu_s()
        answers = self._closed_loop(server, self.options.seconds)
        wall_s, cpu_s = time.perf_counter() - start_s, server.cpu_s() - before_s
        _right(name, answers, truth)
        window = Window(len(answers), wall_s, cpu_s)
        visit = Visit(window, server.cold_start_s, idle, server.memory())
        if name == OURS:
            views, count = (now - then for now, then in zip(_batches(server), batches, strict=True))
            visit.batch_pictures = views / VIEWS / count
        return visit

    def _closed_loop(self, server: Server, seconds: float) -> list[Answer]:
        connections = self.options.connections
        return ask(closed_loop(server.port, self.requests, connections, seconds))

    def _alone(self, batch_pictures: float) -> Visit:
        done = subprocess.run(
            [
                sys.executable, "-m", "serving.bench.alone", "--model", self.model,
                "--batch", str(batch_pictures), "--seconds", str(self.options.seconds),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise UserError(f"{ALONE}: it failed; the end of its output:\n{done.stderr[-2000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        decode_s = found.pop("decode_s")
        return Visit(Window(**found), decode_s=decode_s)


PARTS = {"answers": Round.answers, "front": Round.front}


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


def _bench(options: argparse.Namespace) -> int:
    if min(options.rounds, options.connections) < 1 or options.seconds <= 0:
        raise UserError("--rounds, --connections and --seconds must be above zero")
    visits: Visits = {}
    with tempfile.TemporaryDirectory(prefix="bench.") as folder:
        made = trial.publish(Path(folder), trial.chosen_network(options), seed=0)
        jpegs = trial.photographs()
        truth = trial.Truth(made, jpegs)
        requests = [multipart("/classify", jpeg) for jpeg in jpegs]
        for number in range(options.rounds):
            this = Round(options, Path(folder) / trial.NAME, truth, requests, number)
            for part in options.parts:
                for name, visit in PARTS[part](this):
                    visits.setdefault(name, []).append(visit)
                    print(
                        f"round {number + 1} of {options.rounds}: {name}, "
                        f"{per_core_s(visit):,.1f} a core-second",
                        flush=True,
                    )
    _report(visits, jpegs, options)
    return 0


def _report(visits: Visits, jpegs: list[bytes], options: argparse.Namespace) -> None:
    ratios = scores.ratios(GOALS, visits)
    tables = (scores.rate_table, scores.latency_table, scores.start_table)
    for text in (*(table(visits) for table in tables), scores.ratio_table(ratios)):
        if text:
            print(f"\n{text}", end="")
    print()
    print(
        f"{options.connections} connections, JPEGs of {fmean(map(len, jpegs)) / 1000:.0f} KB, ten "
        f"views, a network of width {options.width:g} and {options.classes} classes"
    )
    if ALONE in visits:
        pairs = list(zip(visits[OURS], visits[ALONE], strict=True))
        share = Spread.of(alone.decode_s * per_core_s(ours) for ours, alone in pairs)
        print(
            f"ours: {median(ours.batch_pictures for ours, _ in pairs):.1f} pictures a batch; "
            f"decoding is {share.median:.1%} ({share.low:.1%} to {share.high:.1%}) of its CPU time"
        )
        print(f"LitServe: up to {MAX_BATCH_PICTURES} pictures a batch, {BATCH_TIMEOUT_S} s for it")
    here = machine()
    versions = {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    today = datetime.now(UTC).date().isoformat()
    print(
        f"{here['cores']} cores of {here['cpu']}, {here['memory_bytes'] / 2**30:.0f} GiB; {today}"
    )
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    everything = {
        "ratios": [asdict(ratio) for ratio in ratios],
        "visits": {name: [asdict(visit) for visit in own] for name, own in visits.items()},
        "machine": here,
        "versions": versions,
        "date": today,
        "options": {name: value for name, value in vars(options).items() if name != "run"},
    }
    print(json.dumps(everything))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m serving.bench", description=__doc__)
    parser.set_defaults(run=_bench)
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS),
        help="with a model, and the front end without one (both)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=5, help="visits to each (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=4.0, help="of asking, in each visit (%(default)s)"
    )
    parser.add_argument("--connections", type=int, default=16, help="(%(default)s)")
    trial.add_network(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
