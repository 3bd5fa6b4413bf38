"""What the rounds of the benchmark come to: rates, latencies, ratios against goals, starts."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import ceil
from statistics import median
from typing import NamedTuple

from alexnet.benchmark import Spread
from serving.bench.process import Memory


@dataclass(frozen=True)
class Window:
    """What was answered from one idle moment to another, and what that cost."""

    requests: int
    wall_s: float
    cpu_s: float
    """User and system time of all processes."""


@dataclass
class Visit:
    """What one contender showed in one round."""

    window: Window
    cold_start_s: float = 0.0
    idle: list[Memory] = field(default_factory=list)
    """Of each process, before the first request."""
    loaded: list[Memory] = field(default_factory=list)
    """The same after the window."""
    batch_pictures: float = 0.0
    """In one forward pass, in the mean. Of ours."""
    latency_s: list[float] = field(default_factory=list)
    """At the rate that is the same for all. Of ours and the naive server."""
    decode_s: float = 0.0
    """CPU time of making one photograph ready. Of the predictor alone."""


Visits = dict[str, list[Visit]]
"""{contender: its visit of each round}."""


def per_s(visit: Visit) -> float:
    return visit.window.requests / visit.window.wall_s


def per_core_s(visit: Visit) -> float:
    return visit.window.requests / visit.window.cpu_s


def p99_s(visit: Visit) -> float:
    return percentile(visit.latency_s, 99)


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest that `percent` of all do not exceed."""
    ordered = sorted(values)
    return ordered[ceil(len(ordered) * percent / 100) - 1]


class Goal(NamedTuple):
    what: str
    of: Callable[[Visit], float]
    first: str
    second: str
    at_least: float | None
    """Of the first over the second in the same round. None: it is only measured."""


@dataclass(frozen=True)
class Ratio:
    what: str
    first: str
    second: str
    ratio: Spread
    at_least: float | None
    met: bool | None

    @classmethod
    def of(cls, goal: Goal, visits: Visits) -> "Ratio":
        rounds = zip(visits[goal.first], visits[goal.second], strict=True)
        spread = Spread.of(goal.of(first) / goal.of(second) for first, second in rounds)
        met = None if goal.at_least is None else spread.median >= goal.at_least
        return cls(goal.what, goal.first, goal.second, spread, goal.at_least, met)


def ratios(goals: Iterable[Goal], visits: Visits) -> list[Ratio]:
    """Of the goals between those that took part."""
    return [Ratio.of(g, visits) for g in goals if g.first in visits and g.second in visits]


def ratio_table(found: Iterable[Ratio]) -> str:
    """Markdown, like all that follow; nothing where there are no rows."""
    verdicts = {True: "met", False: "not met", None: ""}
    return _table(
        ("", "ratio", "lowest to highest round", "goal", ""),
        (
            (
                f"{r.what}, {r.first} : {r.second}", f"{r.ratio.median:.2f}",
                f"{r.ratio.low:.2f} to {r.ratio.high:.2f}",
                "" if r.at_least is None else f"{r.at_least:g}", verdicts[r.met],
            )
            for r in found
        ),
    )  # fmt: skip


def rate_table(visits: Visits) -> str:
    rows = []
    for name, own in visits.items():
        spread = Spread.of(map(per_core_s, own))
        rows.append(
            (
                name, f"{median(map(per_s, own)):,.1f}", f"{spread.median:,.1f}",
                f"{spread.low:,.1f} to {spread.high:,.1f}",
            )
        )  # fmt: skip
    return _table(
        ("contender", "requests/s", "requests per core-second", "lowest to highest round"), rows
    )


def latency_table(visits: Visits) -> str:
    """All rounds together."""
    rows = []
    for name, own in visits.items():
        if values := [1000 * value for visit in own for value in visit.latency_s]:
            half, most = percentile(values, 50), percentile(values, 99)
            rows.append((name, f"{len(values):,}", f"{half:,.0f}", f"{most:,.0f}"))
    return _table(("contender", "requests", "median, ms", "99 % within, ms"), rows)


def start_table(visits: Visits) -> str:
    """Medians of the rounds; pages that processes share count once, but for the last column."""
    rows = []
    for name, own in visits.items():
        if servers := [visit for visit in own if visit.idle]:
            start_s = Spread.of(visit.cold_start_s for visit in servers)
            idle, loaded = (
                median(sum(of.proportional_bytes for of in memories) for memories in each) / 2**20
                for each in ([v.idle for v in servers], [v.loaded for v in servers])
            )
            each = ", ".join(f"{of.resident_bytes / 2**20:,.0f}" for of in servers[-1].loaded)
            rows.append(
                (
                    name, f"{start_s.median:.1f} ({start_s.low:.1f} to {start_s.high:.1f})",
                    f"{idle:,.0f}", f"{loaded:,.0f}", each,
                )
            )  # fmt: skip
    return _table(
        (
            "contender", "start to ready, s", "idle, MiB", "after load, MiB",
            "resident of each process, MiB",
        ),
        rows,
    )  # fmt: skip


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    body = list(rows)
    lines = [head, ("---",) * len(head), *body] if body else []
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
