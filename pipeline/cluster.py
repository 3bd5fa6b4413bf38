"""The Ray cluster that packing and training run on."""

import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from pipeline import head
from pipeline.head import ClusterError
from pipeline.orphans import find_raylets, kill_workers

MEMORY = {
    # Keep freed memory: glibc would hand every large array back to the kernel and fault it in
    # again, which costs a training step on the CPU, or the packing of an image, a fifth of its
    # time.
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**28),
}

ENVIRONMENT = {
    # Ray opens ports; without a token whoever reaches one runs code here.
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # How long workers wait for room: after the loss of a node Ray first asks for as many as before.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "30",
    # Ray runs its workers at nice 15; here they are the work, and DDP waits for the slowest.
    "RAY_worker_niceness": "0",
} | MEMORY

UNWATCHED = {
    # A cluster of one's own has no dashboard: what Ray gathers for it takes processor time.
    "RAY_enable_metrics_collection": "0",
    "RAY_event_stats": "0",
    "RAY_task_events_report_interval_ms": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
}
WATCHED = {
    # A cluster that others started has nodes that can be taken away, and a dashboard.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "1",
}


OBJECT_STORE_BYTES = 200_000_000
"""Images do not go through it. Ray would take a third of the memory, of which a container's
/dev/shm has a part, and say so at length."""


STARTS = 3
TOO_SLOW = "timed out during startup"
"""What Ray says of a node that took longer than half a minute to start."""
TOO_BUSY = "Failed to connect to Ray cluster"
"""What Ray says of a head that took longer than some seconds to tell of itself."""
TOO_LONG = "AF_UNIX path length"
"""What Ray says where the path of a socket has more bytes than the system allows."""


def is_own() -> bool:
    """Whether `cluster` starts a cluster that ends with it."""
    return os.environ.get(head.VARIABLE, "") in head.HERE


@contextmanager
def cluster() -> Iterator[None]:
    """Ray for the length of a block: the cluster at RAY_ADDRESS, else one of its own.

    Ray reads its environment once, on import: import nothing of it before. What the environment
    sets already stays as it is. A block within a block has the cluster of the outer one. Raises
    ClusterError.
    """
    if (started := sys.modules.get("ray")) and started.is_initialized():
        yield
        return
    own = is_own()
    with _environment(ENVIRONMENT | (UNWATCHED if own else WATCHED), own):
        import ray

        common = {"log_to_driver": False, "logging_level": logging.WARNING}
        if own:
            start(
                ray.init,
                address="local",
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                **common,
            )
        else:
            head.check(_address())
            _join(ray.init, runtime_env={"env_vars": MEMORY}, **common)  # it has not ours
        raylets = find_raylets()
        try:
            yield
        finally:
            ray.shutdown()
            # On a busy machine some do not notice that their cluster has ended.
            kill_workers(raylets)


@contextmanager
def _environment(variables: dict[str, str], own: bool) -> Iterator[None]:
    """Sets those of `variables` that are not set already, and a token for a cluster of one's own,
    for the length of a block."""
    before = dict(os.environ)
    os.environ.update(variables | before)
    if own and os.environ["RAY_AUTH_MODE"] == "token":
        # In the environment only: Ray would write one to the home directory, readable by all.
        os.environ.setdefault("RAY_AUTH_TOKEN", _token())
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


@cache
def _token() -> str:
    """Always the same: Ray remembers the first that it sees in a process."""
    return secrets.token_hex(32)


def start(init: Callable[..., Any], **options: Any) -> None:
    """Start Ray, a few times where the machine is too busy for Ray's own limit. Raises ClusterError
    where that does not help either."""
    for attempt in range(1, STARTS + 1):
        try:
            init(**options)
            return
        except Exception as error:
            if TOO_LONG in str(error):
                variable = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
                raise ClusterError(
                    f"{variable} is {os.environ.get(variable)}: the paths of Ray's sockets below "
                    f"it are longer than the system allows (107 bytes); set RAY_TMPDIR to a "
                    "shorter one, such as /tmp"
                ) from None
            if TOO_SLOW not in str(error):
                raise
            if attempt == STARTS:
                raise ClusterError(
                    f"Ray did not start within its time limit, {STARTS} times in a row: other "
                    "work keeps this machine too busy; run the same command again later"
                ) from None


def _address() -> str:
    """What RAY_ADDRESS stands for. Raises ClusterError."""
    given = os.environ[head.VARIABLE]
    if given != "auto":
        return given
    from ray._private.services import get_ray_address_from_environment

    try:
        return get_ray_address_from_environment(given, None)
    except ConnectionError:
        raise ClusterError(
            f"{head.VARIABLE} is {given}, but no Ray runs on this machine; {head.REMEDY}"
        ) from None


def _join(init: Callable[..., Any], **options: Any) -> None:
    """Have Ray use the cluster at RAY_ADDRESS, whose head has just answered: a few times where it
    is too busy for Ray's own limit. Raises ClusterError."""
    for attempt in range(1, STARTS + 1):
        try:
            init(**options)
            return
        except Exception as error:  # Ray has no class of its own for it
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            if TOO_BUSY in reason and attempt < STARTS:
                continue
            raise ClusterError(
                f"{head.VARIABLE} is {os.environ[head.VARIABLE]}: Ray cannot use this cluster "
                f"({reason}); {head.REMEDY}"
            ) from error
