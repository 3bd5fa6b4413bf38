"""Runs as jobs of a Ray cluster: sent, watched and stopped from outside of it, over HTTP.

A job is an attempt at a run, whose name it carries. Ray keeps jobs for as long as its head lives;
runs are folders, and outlast it.
"""

import asyncio
import logging
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pipeline.cluster import ENVIRONMENT
from trainer.on_ray import dashboard
from trainer.run import RunError

STOPPING = {
    # As Ctrl-C does: the run saves and ends. Ray would end it after three seconds.
    "RAY_JOB_STOP_SIGNAL": "SIGINT",
    "RAY_JOB_STOP_WAIT_TIME_S": "120",
}
OVER = {"SUCCEEDED", "STOPPED", "FAILED"}
NO_AGENT = "No available agent"
"""What Ray says while its head has no process yet that takes jobs."""
AGENT_S = 60
"""A head answers some seconds before a node of it takes jobs."""


class Job(NamedTuple):
    """One attempt at a run."""

    id: str
    run: str
    state: str
    """PENDING, RUNNING, SUCCEEDED, STOPPED or FAILED."""
    started: datetime | None

    @property
    def over(self) -> bool:
        return self.state in OVER


class Jobs:
    """The jobs of one cluster. Its methods raise RunError where that cannot be reached or asked."""

    def __init__(self) -> None:
        os.environ.setdefault("RAY_AUTH_MODE", ENVIRONMENT["RAY_AUTH_MODE"])
        self.address = dashboard.address()
        from ray.job_submission import JobSubmissionClient

        logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)
        with self._errors():
            self._client = JobSubmissionClient(self.address)

    def send(self, run: str, command: Sequence[str]) -> Job:
        """Have the cluster run `python -m trainer COMMAND`, unless it is at that run already."""
        before = self.of(run)
        if before and not before[-1].over:
            raise RunError(
                f"run {run} is {before[-1].state.lower()} as {before[-1].id}; "
                f"to follow it: alexnet logs {run}"
            )
        deadline = time.monotonic() + AGENT_S
        with self._errors():
            while not self._taken(run, f"{run}.{len(before) + 1}", command, deadline):
                time.sleep(1)
        return self.last(run)

    def all(self) -> list[Job]:
        """All jobs that were sent for a run, the oldest first."""
        with self._errors():
            found = [job for job in self._client.list_jobs() if "run" in (job.metadata or {})]
        return [_job(job) for job in sorted(found, key=lambda job: job.start_time or 0)]

    def of(self, run: str) -> list[Job]:
        return [job for job in self.all() if job.run == run]

    def last(self, run: str) -> Job:
        """The latest attempt. Raises RunError where there is none."""
        if not (jobs := self.of(run)):
            names = ", ".join(sorted({job.run for job in self.all()})) or "none"
            raise RunError(f"no job of a run {run} at {self.address} (runs: {names})")
        return jobs[-1]

    def follow(self, job: Job) -> Job:
        """Print its log until it is over; returns how it ended."""

        async def tail() -> None:
            async for lines in self._client.tail_job_logs(job.id):
                print(lines, end="", flush=True)

        with self._errors():
            asyncio.run(tail())
        return self.last(job.run)

    def stop(self, job: Job) -> None:
        """Have it save a checkpoint and end."""
        if job.over:
            raise RunError(f"run {job.run} is not running ({job.state.lower()}); nothing to stop")
        with self._errors():
            self._client.stop_job(job.id)

    def _taken(self, run: str, job: str, command: Sequence[str], deadline: float) -> bool:
        try:
            self._client.submit_job(
                entrypoint=shlex.join(["python", "-m", "trainer", *command]),
                submission_id=job,
                runtime_env={"env_vars": STOPPING},
                metadata={"run": run},
            )
        except RuntimeError as error:
            if NO_AGENT in str(error) and time.monotonic() < deadline:
                return False
            raise
        return True

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise RunError(
                f"{self.address}: {_line(error).split('. ')[0]}; set RAY_AUTH_TOKEN_PATH to the "
                "file with the cluster's token, or RAY_AUTH_TOKEN to the token itself"
            ) from None
        except RuntimeError as error:
            raise RunError(
                f"the Ray head at {self.address} refused ({_line(error)}); "
                "if it has just started, try again"
            ) from None
        except ConnectionError as error:
            raise RunError(
                f"no answer from a Ray head at {self.address} ({_line(error)}); start it, or name "
                f"another: {dashboard.VARIABLE}=http://HOST:8265"
            ) from None


def listing(jobs: list[Job]) -> str:
    """A line each."""
    lines = [f"{'run':20} {'state':10} {'started, UTC':17} job"]
    for job in jobs:
        started = f"{job.started:%Y-%m-%d %H:%M}" if job.started else ""
        lines.append(f"{job.run:20} {job.state.lower():10} {started:17} {job.id}")
    return "\n".join(lines)


def _job(details: Any) -> Job:
    started = details.start_time and datetime.fromtimestamp(details.start_time / 1000, UTC)
    return Job(
        id=details.submission_id,
        run=details.metadata["run"],
        state=str(details.status.value),
        started=started,
    )


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
