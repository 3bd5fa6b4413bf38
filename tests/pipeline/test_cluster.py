"""Starting Ray on a machine that is too busy for Ray's own time limit."""

import pytest

from pipeline.cluster import STARTS, ClusterError, start


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
