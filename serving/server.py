"""The processes that listen: one, or several that share the port."""

import os
import signal
import sys
import tempfile

import uvicorn
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
        http="serving.deadline:DeadlineProtocol",
        timeout_graceful_shutdown=settings.drain_s,
        access_log=False,
        log_config=None,
        server_header=False,
    )
    if settings.workers == 1:
        # After its graceful shutdown uvicorn raises the signal again: an orderly end is status 0.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        uvicorn.Server(config).run()
        return 0
    with tempfile.TemporaryDirectory(prefix="serving-metrics.") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        Multiprocess(config, sockets=[config.bind_socket()]).run()
    return 0
