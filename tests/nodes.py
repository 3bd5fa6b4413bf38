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
from contextlib import contextmanager
from pathlib import Path

from pipeline.cluster import ENVIRONMENT

RAY = str(Path(sys.executable).with_name("ray"))
START_S = 8


class Cluster:
    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        token = {
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
        }
        self._environment = os.environ | ENVIRONMENT | token
        self._nodes: list[subprocess.Popen] = []
        self.environment = self._environment | {"RAY_ADDRESS": self.address}
        """Of commands that are to run on it."""

    def start(self, cpus: int) -> subprocess.Popen:
        """Another node; the first is the head."""
        port = self.address.split(":")[1]
        place = (
            [f"--address={self.address}"]
            if self._nodes
            else ["--head", f"--port={port}", "--include-dashboard=false"]
        )
        node = subprocess.Popen(
            [RAY, "start", "--block", f"--num-cpus={cpus}", *place],
            env=self._environment,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._nodes.append(node)
        time.sleep(START_S)
        return node

    def kill(self, node: subprocess.Popen, number: signal.Signals = signal.SIGKILL) -> None:
        """The node and all its workers."""
        if node.poll() is None:
            os.killpg(node.pid, number)
        node.wait()
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
def ray_nodes() -> Iterator[Cluster]:
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.end()
