"""A Ray cluster of several nodes on this machine, started by hand as deploy/ would."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

import psutil

from pipeline.cluster import ENVIRONMENT

RAY = str(Path(sys.executable).with_name("ray"))
START_S = 8
DASHBOARD_S = 90
"""On a busy machine a dashboard comes long after its head."""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


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
        """Of commands that are to run on it."""
        self._url = f"http://127.0.0.1:{self._dashboard}"
        self.outside = token | {"RAY_API_SERVER_ADDRESS": self._url}
        """Of commands that talk to its dashboard."""

    def start(self, cpus: int) -> subprocess.Popen:
        """Another node; the first is the head."""
        port = self.address.split(":")[1]
        dashboard = (
            [f"--dashboard-port={self._dashboard}"]
            if self._dashboard
            else ["--include-dashboard=false"]
        )
        place = (
            [f"--address={self.address}"]
            if self._nodes
            else ["--head", f"--port={port}", *dashboard]
        )
        node = subprocess.Popen(
            # An agent whose usual port another cluster has takes no jobs.
            [
                RAY, "start", "--block", f"--num-cpus={cpus}",
                f"--dashboard-agent-listen-port={_free_port()}", *place,
            ],
            env=self._environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._nodes.append(node)
        time.sleep(START_S)
        if self._dashboard:
            self._wait_for_dashboard()
        return node

    def _wait_for_dashboard(self) -> None:
        deadline = time.monotonic() + DASHBOARD_S
        while time.monotonic() < deadline:
            with suppress(OSError), urlopen(f"{self._url}/api/gcs_healthz", timeout=5):
                return
            time.sleep(0.5)
        raise TimeoutError(f"no dashboard at {self._url} after {DASHBOARD_S} s")

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
