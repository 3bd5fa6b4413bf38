"""The processes that listen: one, or several that share the port."""

import os
import signal
import tempfile

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors import Multiprocess

from serving.logs import configure
from serving.settings import Settings


def serve(settings: Settings) -> int:
    """Until SIGTERM or Ctrl-C, and then until requests under way are answered; status 0."""
    configure()
    os.environ.update(settings.environment())
    config = uvicorn.Config(
        "serving.app:from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http="serving.protocol:Protocol",
        timeout_graceful_shutdown=settings.drain_s,
        access_log=False,
        log_config=None,
        server_header=False,
    )
    if settings.workers == 1:
        # After its graceful shutdown uvicorn raises the signal again: an orderly end is status 0.
        # At once: Python would wait for the thread that loads a model.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        uvicorn.Server(config).run()
        return 0
    with tempfile.TemporaryDirectory(prefix="serving-metrics.") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        _Supervisor(config, sockets=[config.bind_socket()]).run()
    return 0


class _Supervisor(Multiprocess):
    """uvicorn's, but that it does not hold the port while its processes end, nor leave the gauges
    of a dead process standing."""

    def terminate_all(self) -> None:
        for socket in self.sockets:
            socket.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            mark_process_dead(pid)
