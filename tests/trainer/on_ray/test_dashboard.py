"""RAY_API_SERVER_ADDRESS as people set it wrongly, and addresses at which no dashboard answers."""

import os
import socket
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from trainer.on_ray import dashboard
from trainer.run import RunError

BOUND_S = 150
PROXY = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")


def status(address: str, **variables: str) -> str:
    """What `trainer status` says on stderr, which is one line, with status 2."""
    kept = {n: v for n, v in os.environ.items() if not n.lower().endswith("_proxy")}
    done = subprocess.run(
        [sys.executable, "-m", "trainer", "status"],
        env=kept | variables | {"RAY_API_SERVER_ADDRESS": address},
        cwd=ROOT, text=True, capture_output=True, timeout=BOUND_S, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize(
    "address",
    ["localhost:8265", "head", "ray://head:10001", "http://", "http:head:8265",
     "http://head:port", "http://[::1:8265"],
)  # fmt: skip
def test_what_is_no_url_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv(dashboard.VARIABLE, address)
    with pytest.raises(RunError) as error:
        dashboard.address()
    assert str(error.value) == f"{dashboard.VARIABLE} is {address}: write it as http://HOST:8265"


def test_a_command_refuses_what_is_no_url() -> None:
    said = status("127.0.0.1:8265")
    assert "RAY_API_SERVER_ADDRESS is 127.0.0.1:8265: write it as http://HOST:8265" in said


def test_a_server_that_never_answers_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        said = status(address)
    assert f"no answer from a Ray head at {address} (timed out); start it" in said


@pytest.mark.parametrize("variables", [{}, PROXY], ids=["no proxy", "proxy"])
def test_this_machine_is_asked_without_a_proxy(variables: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
    said = status(address, **variables)
    assert f"no answer from a Ray head at {address} (" in said
    assert "proxy" not in said


def test_a_proxy_that_stands_between_is_named() -> None:
    said = status("http://head.invalid:8265", **PROXY)
    assert "asked through http_proxy=http://127.0.0.1:9); start it" in said
