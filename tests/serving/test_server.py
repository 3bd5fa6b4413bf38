"""What uvicorn does not promise and the server builds on, apart from the server; what becomes of it
under way stands in test_slow_clients.py, test_drain.py and test_chaos.py."""

import asyncio
import re
import socket
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState
from uvicorn.supervisors import Multiprocess

from alexnet.command import UserError
from serving.connections import Connections
from serving.protocol import Protocol
from serving.server import Supervisor, check_overrides
from serving.settings import Settings
from tests.conftest import ROOT
from tests.serving.conftest import PATIENCE_S, Server, serve
from tests.serving.connections import LIVEZ, Connection

RUNNING = re.compile(r"running on (http://\S+)")


def test_this_uvicorn_has_what_is_overridden_and_another_is_refused() -> None:
    class Renamed(Multiprocess):
        def terminate_everything(self) -> None:
            """As if uvicorn's `terminate_all` had had this name before."""

    check_overrides(Protocol, Supervisor)
    with pytest.raises(UserError, match=r"uvicorn .* has no Multiprocess\.terminate_everything,"):
        check_overrides(Protocol, Renamed)


@pytest.mark.parametrize(
    ("sent", "status"), [(b"", 408), (b"GET / HT", 408), (b"HELO\r\n\r\n", 400)]
)
def test_the_protocol_refuses_what_is_late_or_no_http(sent: bytes, status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError("there is no request")

    async def answer() -> bytes:
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        state = {"connections": Connections(Settings(model=("unused",), read_s=0.1))}
        listening = await asyncio.get_running_loop().create_server(
            lambda: Protocol(config, ServerState(), state), "127.0.0.1", 0
        )
        async with listening, asyncio.timeout(PATIENCE_S):
            port = listening.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            received = await reader.read()
            writer.close()
            await writer.wait_closed()
            return received

    assert asyncio.run(answer()).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_all_addresses_of_ipv6_are_those_of_ipv4_too(model: Path, workers: int) -> None:
    with serve("--model", model, "--host", "::", "--workers", workers) as server:
        port = server.url.rsplit(":", 1)[1]
        for host in ("127.0.0.1", "[::1]", "localhost"):
            assert httpx.get(f"http://{host}:{port}/livez", timeout=PATIENCE_S).is_success


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_port_that_is_taken_is_one_line(model: Path) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "serving", "--model", model, "--host", "::", "--port", port],
            cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert "Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_header_says_who_asks(model: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "serving", "--model", str(model), "--port", "0"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        url = next(found[1] for line in process.stderr if (found := RUNNING.search(line)))
        names = "X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Forwarded-Proto", "X-Forwarded-Host"
        httpx.get(f"{url}/nowhere", headers=dict.fromkeys(names, "192.0.2.77"), timeout=PATIENCE_S)
        logged = next(line for line in process.stderr if "/nowhere" in line)
    finally:
        process.kill()
        process.communicate()
    assert "127.0.0.1" in logged
    assert "192.0.2.77" not in logged


def test_head_leaves_the_connection_to_the_next_request(server: Server) -> None:
    """No byte of a body follows, or it would be read as the next answer."""
    with Connection(server.url) as connection:
        for path in (b"/livez", b"/", b"/page/index.html", b"/nowhere"):
            connection.send(b"HEAD %s HTTP/1.1\r\nHost: server\r\n\r\n" % path)
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.socket.recv(1 << 16)
            assert head.endswith(b"\r\n\r\n")
            assert b"content-length: 0" not in head.lower()
            connection.send(LIVEZ)
            assert connection.answer().status == 200


def test_the_supervisor_lets_go_of_the_port() -> None:
    """In a process of its own: it takes all signals."""
    code = """
import uvicorn
from serving.server import Supervisor
config = uvicorn.Config("unused", port=0)
supervisor = Supervisor(config, sockets=[config.bind_socket()])
supervisor.keep_subprocess_alive()
supervisor.terminate_all()
assert supervisor.sockets[0].fileno() == -1
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=PATIENCE_S)
