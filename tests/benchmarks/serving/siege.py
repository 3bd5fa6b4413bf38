"""python -m tests.benchmarks.serving.siege: all attacks at once, beside a client that asks.

The client asks at a tenth of what the server can answer: quietly first, then beside the attackers,
each of whom has an address of its own. Attackers have other machines: here they have of the
processors what the server and the client leave. Needs the extra `bench`.
"""

import asyncio
import io
import json
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pydantic import Field

from tests.benchmarks.harness import Network, run
from tests.benchmarks.serving import trial
from tests.benchmarks.serving.load import HOST, Answer, ask, closed_loop, multipart, open_loop
from tests.benchmarks.serving.process import Server
from tests.serving.connections import LIVEZ, Connection, head, upload
from tests.serving.worst import FORMS, JSON, request

SHARE = 0.1
"""Of what the server can answer: the rate at which the client asks."""
BEATS_PER_S, MOST_BEAT_S, SAMPLE_S = 10.0, 0.5, 0.2
CAPACITY_S, REST_S = 10.0, 20.0
MOST_SLOWER, MOST_GROWTH_MIB = 3.0, 64.0
"""The 99th percentile beside the attackers, by the quiet one; the most memory in the second half of
the attack, above that in its first."""
NICENESS = 19
AUTOGROUP = Path("/proc/self/autogroup")
"""Where Linux keeps the niceness of a session, which comes before that of its processes."""
PAUSE_S = 0.05
HEADER = b"X-Filler: " + b"a" * 1000 + b"\r\n"

Attack = Callable[["Attacker"], None]


class Attacker(NamedTuple):
    url: str
    address: str
    done: Event

    def connect(self) -> Connection:
        return Connection(self.url, timeout_s=10, source=self.address)

    def send(self, data: bytes) -> None:
        """And wait for the answer, whatever it is."""
        with self.connect() as connection:
            connection.send(data)
            connection.answer()


def endless_heads(attacker: Attacker) -> None:
    with attacker.connect() as connection:
        connection.send(b"GET /livez HTTP/1.1\r\nHost: server\r\n")
        for _ in range(50_000):
            connection.send(HEADER)


def upgrades(attacker: Attacker) -> None:
    inner = b"GET /metrics HTTP/1.1\r\nHost: server\r\n\r\n"
    attacker.send(head(len(inner)).replace(b"\r\n\r\n", b"\r\nUpgrade: h2c\r\n\r\n") + inner)


def parsers(attacker: Attacker) -> None:
    number = time.monotonic_ns()
    body, kind = (
        (list(JSON.values()), b"application/json"),
        (list(FORMS.values()), b"multipart/form-data; boundary=b"),
    )[number % 2]
    attacker.send(request(body[number // 2 % len(body)], kind))


def bombs(attacker: Attacker) -> None:
    for data in _bombs():
        attacker.send(upload(data))


def large_images(attacker: Attacker) -> None:
    for data in _large():
        attacker.send(upload(data))


def pixels_in_drips(attacker: Attacker) -> None:
    data = upload(_bombs()[0])
    with attacker.connect() as connection:
        for start in range(0, len(data), 100):
            connection.send(data[start : start + 100])
            attacker.done.wait(0.3)
        connection.answer()


def early_answers(attacker: Attacker) -> None:
    """The answer comes before the body's end; then nothing is sent any more."""
    kept = []
    for _ in range(20):
        kept.append(attacker.connect())
        kept[-1].send(head(10**9) + b"x" * 1000)
    attacker.done.wait(5)
    for connection in kept:
        connection.close()


def slow_readers(attacker: Attacker) -> None:
    kept = []
    for _ in range(20):
        kept.append(attacker.connect())
        kept[-1].send(b"GET /swagger/swagger-ui-bundle.js HTTP/1.1\r\nHost: server\r\n\r\n" * 5)
    attacker.done.wait(5)
    for connection in kept:
        connection.close()


def leavers(attacker: Attacker) -> None:
    with attacker.connect() as connection:
        connection.send(upload(trial.photographs()[0]))
        time.sleep(0.02)


def pipelines(attacker: Attacker) -> None:
    with attacker.connect() as connection:
        connection.send(upload(*trial.photographs()[:8]) + upload(*trial.photographs()))
        connection.answer()
        connection.answer()


def tiny_chunks(attacker: Attacker) -> None:
    with attacker.connect() as connection:
        connection.send(head(None))
        for _ in range(2000):
            connection.send(b"1\r\nx\r\n")


def drips(attacker: Attacker) -> None:
    with attacker.connect() as connection:
        connection.send(b"POST /classify HTTP/1.1\r\nHost: server\r\nX-Drip: ")
        connection.drip(b"x", every_s=0.5, for_s=30)


ATTACKS: tuple[Attack, ...] = (
    endless_heads, upgrades, parsers, bombs, large_images, pixels_in_drips, early_answers,
    slow_readers, leavers, pipelines, tiny_chunks, drips,
)  # fmt: skip


@cache
def _bombs() -> tuple[bytes, ...]:
    jpeg = _encoded("JPEG", 3000, progressive=True)
    scan = jpeg.index(b"\xff\xda")
    scans = jpeg[:scan] + jpeg[scan:-2] * 300
    return _encoded("WEBP", 5700, lossless=True), _encoded("PNG", 5700), scans


@cache
def _large() -> tuple[bytes, ...]:
    jpeg = _encoded("JPEG", 8000)
    filler = bytes(19_000_000 - len(jpeg))
    return _encoded("WEBP", 5700), _encoded("JPEG", 8000, progressive=True), jpeg + filler


def _encoded(form: str, side: int, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, form, **options)
    return file.getvalue()


def attack_all(url: str, done: Event, counts: Any) -> None:
    """Attack until it is said that it is done; in a process of its own."""
    os.setsid()
    os.nice(NICENESS)
    if AUTOGROUP.exists():
        AUTOGROUP.write_text(str(NICENESS))

    def repeat(attack: Attack, number: int) -> None:
        attacker = Attacker(url, f"127.0.1.{10 + number}", done)
        while not done.is_set():
            with suppress(OSError):
                attack(attacker)
            counts[number] += 1
            done.wait(PAUSE_S)

    threads = [
        threading.Thread(target=repeat, args=(attack, number))
        for number, attack in enumerate(ATTACKS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Siege(Network):
    """Attack a server in all ways at once, beside a client that asks.

    Fails where an answer of the client is wrong or missing, where its slowest are three times as
    slow as without attackers, where the server's heartbeat takes over half a second, or where
    memory grows.
    """

    minutes: float = Field(5, gt=0)
    """How long it is attacked."""
    quiet_minutes: float = Field(2, gt=0)
    """How long the client asks before."""


class Phase(NamedTuple):
    """What the client, and who asks whether the server lives, saw in a time."""

    answers: list[Answer]
    beats: list[Answer]
    memory_mib: list[float]

    @property
    def p99_s(self) -> float:
        return float(np.percentile([answer.latency_s for answer in self.answers], 99))


def main(arguments: Sequence[str] | None = None) -> int:
    return run("serving.siege", Siege, siege, arguments)


def siege(options: Siege) -> int:
    jpegs = trial.photographs()
    requests = [multipart("/classify", jpeg) for jpeg in jpegs]
    with tempfile.TemporaryDirectory(prefix="siege.") as folder:
        made = trial.publish(Path(folder), options.network, 0)
        environment = {"SERVING_MODEL": str(Path(folder) / trial.NAME)}
        with Server("serving", ready="/readyz", environment=environment) as server:
            done = ask(closed_loop(server.port, requests, 8, CAPACITY_S))
            rate_per_s = SHARE * len(done) / CAPACITY_S
            quiet = _phase(server, requests, rate_per_s, 60 * options.quiet_minutes)
            with _attackers(f"http://{HOST}:{server.port}") as counts:
                attacked = _phase(server, requests, rate_per_s, 60 * options.minutes)
            time.sleep(REST_S)
            after = _phase(server, requests, rate_per_s, REST_S)
    truth = trial.Truth(made, jpegs)
    return _report(truth, {"quiet": quiet, "attacked": attacked, "after": after}, counts, options)


@contextmanager
def _attackers(url: str) -> Iterator[Counter[str]]:
    """All of them for as long as the block takes; how often each has attacked."""
    spawn = get_context("spawn")
    done, counts = spawn.Event(), spawn.Array("l", len(ATTACKS), lock=False)
    process = spawn.Process(target=attack_all, args=(url, done, counts))
    process.start()
    attacked: Counter[str] = Counter()
    try:
        yield attacked
    finally:
        done.set()
        process.join()
        for attack, count in zip(ATTACKS, counts, strict=True):
            attacked[attack.__name__] = count


def _phase(server: Server, requests: list[bytes], rate_per_s: float, seconds: float) -> Phase:
    memory_mib: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            memory_mib.append(sum(one.proportional_bytes for one in server.memory()) / 2**20)

    async def both() -> tuple[list[Answer], list[Answer]]:
        asked = open_loop(server.port, requests, rate_per_s, seconds, seed=0)
        beats = open_loop(server.port, [LIVEZ], BEATS_PER_S, seconds, seed=1)
        return await asyncio.gather(asked, beats)

    sampling = threading.Thread(target=sample)
    sampling.start()
    try:
        answers, beats = asyncio.run(both())
    finally:
        done.set()
        sampling.join()
    return Phase(answers, beats, memory_mib)


def _report(
    truth: trial.Truth, phases: dict[str, Phase], counts: Counter[str], options: Siege
) -> int:
    print(f"attacks: {', '.join(f'{name} {count:,}' for name, count in counts.items())}")
    found: dict[str, Any] = {}
    for name, phase in phases.items():
        flaws = Counter(flaw for answer in phase.answers if (flaw := truth.flaw(answer)))
        dead = sum(answer.status != 200 for answer in phase.beats)
        seconds = [answer.latency_s for answer in phase.answers]
        half = len(phase.memory_mib) // 2
        found[name] = {
            "answers": len(phase.answers),
            "wrong": flaws,
            "median_s": float(np.median(seconds)),
            "p99_s": phase.p99_s,
            "beats_missed": dead,
            "beat_worst_s": max(answer.latency_s for answer in phase.beats),
            "beat_p99_s": float(np.percentile([beat.latency_s for beat in phase.beats], 99)),
            "memory_mib": [max(phase.memory_mib[:half]), max(phase.memory_mib[half:])],
        }
        print(name, json.dumps(found[name]))
    quiet, attacked, after = (found[name] for name in phases)
    passed = (
        not any(one["wrong"] or one["beats_missed"] for one in found.values())
        and attacked["beat_worst_s"] <= MOST_BEAT_S
        and attacked["p99_s"] <= MOST_SLOWER * quiet["p99_s"]
        and attacked["memory_mib"][1] <= attacked["memory_mib"][0] + MOST_GROWTH_MIB
        and max(after["memory_mib"]) <= attacked["memory_mib"][0]
    )
    print("passed" if passed else "failed")
    options_found = options.model_dump(mode="json")
    print(json.dumps(found | {"attacks": counts, "passed": passed, "options": options_found}))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
