"""What uvicorn does not promise and the server builds on, apart from the server; what becomes of it
under way stands in test_slow_clients.py, test_drain.py and test_chaos.py."""

import asyncio
import subprocess
import sys

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState
from uvicorn.supervisors import Multiprocess

from alexnet.command import UserError
from serving.server import Protocol, Supervisor, check_overrides
from tests.conftest import ROOT
from tests.serving.conftest import PATIENCE_S


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
        listening = await asyncio.get_running_loop().create_server(
            lambda: Protocol(config, ServerState(), {"read_s": 0.1}), "127.0.0.1", 0
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
