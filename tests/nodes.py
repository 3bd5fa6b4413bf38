"""A Ray cluster of several nodes on this machine, started by hand as deploy/ would."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import psutil

from pipeline.cluster import ENVIRONMENT

RAY = str(Path(sys.executable).with_name("ray"))
START_S = 180
"""Time in which a node, and then the dashboard of a head, must have started."""
ATTEMPTS = 5
"""Ray takes a node back that has not started within 30 s, as on a busy machine one may not."""
STARTED = b"Ray runtime started"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def _comes(node: subprocess.Popen, condition: Callable[[], bool]) -> bool:
    """Whether it holds before the node ends, or START_S are over."""
    deadline = time.monotonic() + START_S
    while node.poll() is None and time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


class Cluster:
    def __init__(self, dashboard: bool) -> None:
        self.address = f"127.0.0.1:{_free_port()}"
        self._dashboard = _free_port() if dashboard else None
        token = {
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        }
        path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}  # of jobs
        self._environment = os.environ | ENVIRONMENT | token | path
        self._nodes: list[subprocess.Popen] = []
        self.environment = self._environment | {"RAY_ADDRESS": self.address}
        """The environment of commands that are to run on the cluster."""
        self._url = f"http://127.0.0.1:{self._dashboard}"
        self.outside = token | {"RAY_API_SERVER_ADDRESS": self._url}
        """The environment of commands that talk to the cluster's dashboard."""

    def start(self, cpus: int, gpus: int = 0) -> subprocess.Popen:
        """Another node; the first is the head. With `gpus` it claims so many, there or not."""
        port = self.address.split(":")[1]
        dashboard = (
            [f"--dashboard-port={self._dashboard}"]
            if self._dashboard
            else ["--include-dashboard=false"]
        )
        place = (
            [f"--address={self.address}"]
            if self._nodes
            else [
                "--head",
                f"--port={port}",
                *dashboard,
                "--no-monitor",
                f"--ray-client-server-port={_free_port()}",
            ]
        )
        claimed = [f"--num-gpus={gpus}"] if gpus else []
        # An agent whose usual port another cluster has takes no jobs.
        command = [
            RAY, "start", "--block", f"--num-cpus={cpus}", *claimed,
            f"--dashboard-agent-listen-port={_free_port()}", *place,
        ]  # fmt: skip
        for _ in range(ATTEMPTS):
            with tempfile.TemporaryFile() as log:
                node = subprocess.Popen(
                    command, env=self._environment, start_new_session=True, stdout=log, stderr=log
                )
                self._nodes.append(node)
                if _comes(node, lambda: STARTED in os.pread(log.fileno(), 1 << 20, 0)):
                    break
                said = os.pread(log.fileno(), 1 << 20, 0).decode()
            self.kill(node)
        else:
            raise AssertionError(f"a node did not start: {said}")
        assert not self._dashboard or _comes(node, self._has_dashboard), "no dashboard"
        return node

    def _has_dashboard(self) -> bool:
        with suppress(OSError), urlopen(f"{self._url}/api/gcs_healthz", timeout=5):
            return True
        return False

    def kill(self, node: subprocess.Popen, number: signal.Signals = signal.SIGKILL) -> None:
        """The node and all its workers."""
        processes = psutil.Process(node.pid).children(recursive=True) if node.poll() is None else []
        for process in [node, *processes]:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.send_signal(number)
        node.wait()
        psutil.wait_procs(processes, timeout=20)
        self._nodes.remove(node)

    def drain(self, deadline_s: int) -> None:
        """Tell the cluster that its youngest node is about to be taken away."""
        script = (
            "import ray; ray.init(log_to_driver=False); "
            "print([n['NodeID'] for n in ray.nodes() if n['Alive']"
            " and 'node:__internal_head__' not in n['Resources']][-1])"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], env=self.environment, capture_output=True, text=True
        )
        (identity,) = re.findall(r"^[0-9a-f]{56}$", done.stdout, re.MULTILINE)
        subprocess.run(
            [
                RAY, "drain-node", "--address", self.address, "--node-id", identity,
                "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "test",
                "--deadline-remaining-seconds", str(deadline_s),
            ],
            env=self._environment,
            check=True,
            capture_output=True,
        )  # fmt: skip

    def end(self) -> None:
        for node in reversed(list(self._nodes)):
            self.kill(node, signal.SIGTERM)


@contextmanager
def ray_nodes(dashboard: bool = False) -> Iterator[Cluster]:
    cluster = Cluster(dashboard)
    try:
        yield cluster
    finally:
        cluster.end()
