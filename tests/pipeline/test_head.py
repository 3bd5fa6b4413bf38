"""RAY_ADDRESS and the other variables that Ray starts by, set as people set them wrongly."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.cluster import is_own
from pipeline.head import ADDRESS, HERE, VARIABLE, ClusterError, check
from tests.conftest import ROOT

BOUND_S = 150
"""A command that waits for a cluster for minutes exceeds it on any machine."""


def command(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith("RAY_") and "proxy" not in n}
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=kept | variables,
        text=True, capture_output=True, timeout=BOUND_S, check=False,
    )  # fmt: skip


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@contextmanager
def listening(answer: bytes | None) -> Iterator[int]:
    """A port on which every connection gets `answer`, or, without one, not even to be accepted."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(answer or b"")

        if answer is not None:
            threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        if answer is not None:
            server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def pack(photographs: Path, tmp_path: Path) -> tuple[str, ...]:
    return ("pipeline", "pack", str(photographs), str(tmp_path / "packed"), "--size", "64")


def refused(monkeypatch: pytest.MonkeyPatch, address: str) -> str:
    """What `check` says of an address, in this process."""
    monkeypatch.setenv(VARIABLE, address)
    with pytest.raises(ClusterError) as error:
        check(address)
    return str(error.value)


NO_ADDRESS = "RAY_ADDRESS is {}: write it as HOST:6379"


@pytest.mark.parametrize(
    "address",
    [
        "https://head:8265", "127.0.0.1", "head", "127.0.0.1:", ":6379", "127.0.0.1:99999",
        "127.0.0.1:6379/", "127.0.0.1:port", "a b:6379", "::1:6379",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    assert NO_ADDRESS.format(address) in refused(monkeypatch, address)


def test_a_command_refuses_what_is_no_address(pack: tuple[str, ...]) -> None:
    address = "http://127.0.0.1:8265"
    assert NO_ADDRESS.format(address) in refusal(command(*pack, RAY_ADDRESS=address))


OTHER = "RAY_ADDRESS is {}: what listens there answers another protocol than Ray's; start it"


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", "ray://127.0.0.1:{}"])
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH"])
def test_what_listens_but_is_no_head_is_named(
    monkeypatch: pytest.MonkeyPatch, form: str, answer: bytes
) -> None:
    with listening(answer) as port:
        address = form.format(port)
        assert OTHER.format(address) in refused(monkeypatch, address)


def test_a_command_does_not_wait_for_what_listens_in_silence(pack: tuple[str, ...]) -> None:
    with listening(None) as port:
        address = f"ray://127.0.0.1:{port}"
        said = refusal(command(*pack, RAY_ADDRESS=address))
    assert f"RAY_ADDRESS is {address}: what listens there answers nothing within 9 s" in said


GONE = "RAY_ADDRESS is {}: no Ray head can be reached there ("


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_a_cluster_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    with listening(b"") as port:
        pass
    address = form.format(port)
    assert GONE.format(address) in refused(monkeypatch, address)


@pytest.mark.parametrize("address", ["[::1]:9", "head.invalid:6379"])
def test_a_command_names_a_head_that_is_not_there(pack: tuple[str, ...], address: str) -> None:
    assert GONE.format(address) in refusal(command(*pack, RAY_ADDRESS=address))


def test_a_host_may_be_a_name_or_of_either_version() -> None:
    for address in ("head:6379", "10.0.0.1:6379", "[fe80::1]:6379", "ray://a.b-c.d:10001"):
        assert ADDRESS.fullmatch(address), address


def test_these_mean_a_cluster_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, pack: tuple[str, ...]
) -> None:
    for address in HERE:
        monkeypatch.setenv(VARIABLE, address)
        assert is_own()
    done = command(*pack, RAY_ADDRESS="local")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("variable", ["TMPDIR", "RAY_TMPDIR"])
def test_a_long_folder_for_temporary_files(
    pack: tuple[str, ...], tmp_path: Path, variable: str
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    said = refusal(command(*pack, **{variable: str(folder)}))
    assert f"{variable} is {folder}: the paths of Ray's sockets" in said
    assert "set RAY_TMPDIR to a shorter one, such as /tmp" in said
