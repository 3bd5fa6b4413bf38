"""The processes that listen: one, or several that share the port. All that we know of uvicorn,
but for its protocol."""

import logging
import os
import signal
import socket
import tempfile
import time

import uvicorn
from prometheus_client.multiprocess import mark_process_dead
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from alexnet import sandbox
from alexnet.command import UserError
from serving.logs import configure
from serving.protocol import Protocol
from serving.settings import Settings

RESTART_S = 300
"""Time for a process that is to replace another: it loads torch, and then the model."""


def serve(settings: Settings) -> int:
    """Until SIGTERM or Ctrl-C, and then until requests under way are answered; status 0.

    Raises UserError where this version of uvicorn lacks what is overridden here.
    """
    check_overrides(Protocol, Supervisor)
    configure()
    if not sandbox.available():
        logging.getLogger(__name__).warning(
            "decoders are not confined: here the kernel, or what stands for it, has no seccomp"
        )
    os.environ.update(settings.environment())
    config = uvicorn.Config(
        "serving.app:from_environment",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        http="serving.protocol:Protocol",
        ws="none",
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.drain_s,
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # by which clients would choose the address that bounds them
    )
    if settings.workers == 1:
        # After its graceful shutdown uvicorn raises the signal again: an orderly end is status 0.
        # At once: Python would wait for the thread that loads a model.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
        uvicorn.Server(config).run(sockets=[_dual(config)] if config.host == "::" else None)
        return 0
    with tempfile.TemporaryDirectory(prefix="serving-metrics.") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        bound = _dual(config) if config.host == "::" else config.bind_socket()
        Supervisor(config, sockets=[bound]).run()
    return 0


def _dual(config: uvicorn.Config) -> socket.socket:
    """A socket that listens on all addresses of both IPv6 and IPv4; uvicorn's and asyncio's take
    only the former, or what the machine has as its default. Raises UserError without IPv6."""
    if not socket.has_dualstack_ipv6():
        raise UserError("host is ::, but this machine has no IPv6; listen on 0.0.0.0 instead")
    address = config.host, config.port
    bound = socket.create_server(address, family=socket.AF_INET6, dualstack_ipv6=True)
    bound.set_inheritable(True)
    running = f"Uvicorn running on http://[::]:{bound.getsockname()[1]} (Press CTRL+C to quit)"
    logging.getLogger("uvicorn.error").info(running)
    return bound


def check_overrides(*classes: type) -> None:
    """Refuse, with UserError, a public method that a base of uvicorn's lacks: it would never be
    called."""
    for ours in classes:
        base = ours.__bases__[0]
        for name in vars(ours):
            if not name.startswith("_") and not hasattr(base, name):
                raise UserError(
                    f"uvicorn {uvicorn.__version__} has no {base.__name__}.{name}, which the "
                    "server builds on; install the version that constraints.txt names"
                )


class Supervisor(Multiprocess):
    """uvicorn's, but that it does not hold the port while its processes end, nor leave the gauges
    of a dead process standing; and that it waits for a process that is to replace another."""

    def terminate_all(self) -> None:
        for bound in self.sockets:
            bound.close()
        super().terminate_all()

    def keep_subprocess_alive(self) -> None:
        before = {process.pid for process in self.processes}
        super().keep_subprocess_alive()
        for pid in before - {process.pid for process in self.processes}:
            mark_process_dead(pid)

    def restart_all(self) -> None:
        """Replace each process once the next one serves, unless that fails or the server is to end.
        uvicorn waits for it no longer than for the answer to a ping."""
        for index, old in enumerate(self.processes):
            new = Process(self.config, self.sockets)
            new.start()
            replaced = self._is_ready(new)
            if replaced:
                self.processes[index] = new
                old.terminate()
            else:
                new.kill()
            gone = old if replaced else new
            gone.join()
            mark_process_dead(gone.pid)
            if not replaced:
                if not self._is_to_end():
                    logging.getLogger("uvicorn.error").error(
                        f"New child process [{new.pid}] does not serve; keeping [{old.pid}]."
                    )
                return

    def _is_ready(self, process: Process) -> bool:
        deadline = time.monotonic() + RESTART_S
        while process.process.is_alive() and time.monotonic() < deadline and not self._is_to_end():
            if process.wait_until_ready(1):
                return True
        return False

    def _is_to_end(self) -> bool:
        """Signals wait in the queue until the processes are replaced."""
        return not {signal.SIGINT, signal.SIGTERM}.isdisjoint(self.signal_queue)
