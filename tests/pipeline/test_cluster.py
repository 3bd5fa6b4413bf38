"""Starting Ray on a machine that is too busy for Ray's own time limit."""

import os
import subprocess
import sys

import pytest

from pipeline.cluster import STARTS, ClusterError, _join, start
from pipeline.head import VARIABLE
from tests.conftest import ROOT


def failing(*errors: Exception):
    """Stands in for ray.init: fails with each of `errors`, then starts."""
    left = list(errors)

    def init(**options: object) -> None:
        assert options == {"address": "local"}
        if left:
            raise left.pop(0)

    return init


SLOW = Exception("The current node timed out during startup. This could happen because ...")


def test_a_slow_start_is_tried_again() -> None:
    start(failing(*(STARTS - 1) * [SLOW]), address="local")


def test_after_some_tries_it_is_one_line() -> None:
    with pytest.raises(ClusterError, match="keeps this machine too busy; run the same command"):
        start(failing(*STARTS * [SLOW]), address="local")


def test_another_error_is_not_hidden() -> None:
    with pytest.raises(RuntimeError, match="no such host"):
        start(failing(RuntimeError("no such host")), address="local")


BUSY = ConnectionError("Failed to connect to Ray cluster at 192.0.2.2:6379")


def test_a_head_that_is_too_busy_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "192.0.2.2:6379")
    _join(failing(*(STARTS - 1) * [BUSY]), address="local")
    with pytest.raises(ClusterError, match=r"use this cluster .Failed to connect to Ray"):
        _join(failing(*STARTS * [BUSY]), address="local")
    with pytest.raises(ClusterError, match=r"use this cluster .no such token"):
        _join(failing(RuntimeError("no such token")), address="local")


TWICE = """
import os
from pipeline.cluster import cluster

before = dict(os.environ)
for _ in range(2):
    with cluster():
        import ray

        assert os.environ["RAY_AUTH_MODE"] == "token"
        node = ray.nodes()[0]["NodeID"]
        with cluster():
            assert ray.nodes()[0]["NodeID"] == node
        assert ray.get(ray.remote(lambda: os.environ["RAY_AUTH_TOKEN"]).remote())
    changed = {name for name, _ in os.environ.items() ^ before.items()}
    assert not changed, changed
"""


def test_a_cluster_of_ones_own_leaves_the_environment_as_it_was() -> None:
    """And starts again in the same process, with the token that Ray remembers."""
    environment = {name: value for name, value in os.environ.items() if name[:4] != "RAY_"}
    done = subprocess.run(
        [sys.executable, "-c", TWICE], cwd=ROOT, env=environment, text=True, capture_output=True
    )
    assert done.returncode == 0, done.stderr
