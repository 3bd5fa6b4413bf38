"""python -m tests.benchmarks.serving.soak: minutes of load, while the model is published anew.

Samples the memory of all its processes each second and fits a line to it, after a fifth of the time
to warm up. Needs the extra `bench`.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Coroutine, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alexnet import checkpoint
from alexnet.checkpoint import Checkpoint
from tests.benchmarks.harness import Network, run
from tests.benchmarks.serving import trial
from tests.benchmarks.serving.load import Answer, ask, closed_loop, multipart
from tests.benchmarks.serving.process import Server

CONNECTIONS = 8
SAMPLE_S = 1.0
WARM_UP = 0.2
"""Part of the time in which caches fill."""
SHOWN = 5
"""Faults that are printed."""


class Sample(NamedTuple):
    at_s: float
    resident_mib: float
    """Resident memory of all processes."""


class Soak(Network):
    """Put a server under load while its model is published anew, and watch its memory.

    Fails where memory grows too fast, a request failed, or an answer is neither that of the one
    model nor that of the other.
    """

    minutes: float = Field(10, gt=0)
    """How long."""
    reload_every: float = Field(15, gt=0)
    """Seconds from one publication to the next."""
    limit_mib_per_minute: float = Field(5, gt=0)
    """Growth of memory, in MiB a minute, that is still passed."""
    plant_leak: bool = False
    """Leak every upload, to see that it is found."""


def main(arguments: Sequence[str] | None = None) -> int:
    return run("serving.soak", Soak, soak, arguments)


def soak(options: Soak) -> int:
    jpegs = trial.photographs()
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="soak.") as folder:
        models = Path(folder)
        made = [trial.publish(models, options.network, seed) for seed in (0, 1)]
        words = ("uvicorn", "--factory", "tests.benchmarks.serving.soak:leaking_app")
        with Server(
            *(words if options.plant_leak else ("serving",)),
            ready="/readyz",
            environment={"SERVING_MODEL": str(models / trial.NAME)},
        ) as server:
            requests = [multipart("/classify", jpeg) for jpeg in jpegs]
            asking = closed_loop(server.port, requests, CONNECTIONS, 60 * options.minutes)
            beside = (_sample(server, samples), _publish(made, models, options.reload_every))
            answers = ask(_alongside(asking, *beside))
    truths = {one.about.weights_sha256: trial.Truth(one, jpegs) for one in made}
    return _report(answers, truths, samples, options)


async def _alongside(
    asking: Awaitable[list[Answer]], *beside: Coroutine[Any, Any, None]
) -> list[Answer]:
    """What `asking` yields; `beside` runs until then."""
    tasks = [asyncio.create_task(work) for work in beside]
    answers = await asking
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome
    return answers


async def _sample(server: Server, samples: list[Sample]) -> None:
    start_s = time.monotonic()
    while True:
        resident_bytes = await asyncio.to_thread(server.resident_bytes)
        samples.append(Sample(time.monotonic() - start_s, resident_bytes / 2**20))
        await asyncio.sleep(SAMPLE_S)


async def _publish(made: list[Checkpoint], models: Path, every_s: float) -> None:
    for one in cycle(made):
        await asyncio.sleep(every_s)
        await asyncio.to_thread(checkpoint.save, *one[:3], models)


def _report(
    answers: list[Answer],
    truths: dict[str, trial.Truth],
    samples: list[Sample],
    options: Soak,
) -> int:
    flaws = Counter(flaw for answer in answers if (flaw := _flaw(answer, truths)))
    by_model = Counter(_model(answer) for answer in answers if answer.status == 200)
    slope = slope_mib_per_minute(samples)
    memory_mib = {
        "start": samples[0].resident_mib,
        "warm": _warm(samples)[0].resident_mib,
        "end": samples[-1].resident_mib,
        "most": max(sample.resident_mib for sample in samples),
    }
    print(f"{len(answers):,} answers, {flaws.total():,} of them wrong")
    for flaw, times in flaws.most_common(SHOWN):
        print(f"  {times:,} times: {flaw}")
    for sha256 in truths:
        print(f"  {by_model[sha256]:,} from model {sha256[:12]}")
    print("memory, MiB: " + ", ".join(f"{when} {mib:,.0f}" for when, mib in memory_mib.items()))
    print(f"slope {slope:+.2f} MiB a minute, the limit is {options.limit_mib_per_minute:g}")
    passed = (
        not flaws
        and all(by_model[sha256] for sha256 in truths)
        and slope <= options.limit_mib_per_minute
    )
    print("passed" if passed else "failed")
    everything = {
        "answers": len(answers),
        "flaws": flaws,
        "by_model": by_model,
        "memory_mib": memory_mib,
        "slope_mib_per_minute": slope,
        "passed": passed,
        "options": options.model_dump(mode="json"),
    }
    print(json.dumps(everything))
    return 0 if passed else 1


def _flaw(answer: Answer, truths: dict[str, trial.Truth]) -> str | None:
    if refused := trial.refusal(answer):
        return refused
    if (sha256 := _model(answer)) not in truths:
        return f"from model {sha256}, which was never published"
    return truths[sha256].flaw(answer)


def _model(answer: Answer) -> str:
    return json.loads(answer.body)["model"]["sha256"]


def slope_mib_per_minute(samples: list[Sample]) -> float:
    """The slope of the line through the samples after the warm-up (Theil and Sen's).

    The median of the slopes between any two: the peaks where two models are loaded do not bend it.
    """
    at_s, mib = np.array(_warm(samples)).T
    first, second = np.triu_indices(len(mib), 1)
    return 60 * float(np.median((mib[second] - mib[first]) / (at_s[second] - at_s[first])))


def _warm(samples: list[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.at_s >= WARM_UP * samples[-1].at_s]


def leaking_app() -> ASGIApp:
    """The server with a fault that the check must find: it keeps every upload."""
    from serving.app import from_environment

    app, kept = from_environment(), []

    async def leaking(scope: Scope, receive: Receive, send: Send) -> None:
        async def keeping() -> Message:
            message = await receive()
            kept.append(message.get("body"))
            return message

        await app(scope, keeping, send)

    return leaking


if __name__ == "__main__":
    sys.exit(main())
