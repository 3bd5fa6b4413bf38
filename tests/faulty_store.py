"""A proxy before an object store that does to requests and answers what networks and clouds do."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK = 2**16
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"
ERROR = b"<Error><Code>InternalError</Code><Message>We met an error.</Message></Error>"


@dataclass
class Faults:
    """What goes wrong from now on, each with a probability for a request; all may be changed while
    the proxy runs."""

    dropped: float = 0
    """The connection ends before the store has seen the request."""
    unanswered: float = 0
    """It ends after the store has done what was asked."""
    failed: float = 0
    """Status 500."""
    slowed: float = 0
    """Status 503, SlowDown."""
    cut: float = 0
    """An answer with a body ends in the middle of it."""
    latency_s: float = 0
    """Before each request."""
    away_until: float = 0
    """By time.monotonic(): until then all connections end at once."""
    counts: Counter[str] = field(default_factory=Counter)
    """How often each has happened; `requests` are all."""


@contextmanager
def faulty(port: int, faults: Faults, seed: int = 0) -> Iterator[str]:
    """The endpoint of a proxy before the store at `port`, for the length of a block."""
    dice, lock = random.Random(seed), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *words: object) -> None:
            pass

        def _happens(self, name: str) -> bool:
            with lock:
                happens = dice.random() < getattr(faults, name)
                faults.counts[name] += happens
            return happens

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            faults.counts["requests"] += 1
            time.sleep(faults.latency_s)
            if time.monotonic() < faults.away_until:
                faults.counts["away"] += 1
                self.close_connection = True
            elif self._happens("dropped"):
                self.close_connection = True
            elif self._happens("failed"):
                self._say(500, ERROR)
            elif self._happens("slowed"):
                self._say(503, SLOW_DOWN)
            else:
                self._forward(body)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass

        def _say(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _forward(self, body: bytes) -> None:
            store = HTTPConnection("127.0.0.1", port)
            try:
                store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    store.putheader(name, value)
                store.endheaders(body)
                self._answer(store.getresponse())
            except (OSError, HTTPException):
                self.close_connection = True
            finally:
                store.close()

        def _answer(self, answer: HTTPResponse) -> None:
            if self._happens("unanswered"):
                answer.read()
                self.close_connection = True
                return
            self.send_response(answer.status)
            content = b"" if self.command == "HEAD" else answer.read()
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else len(content)
            if length is not None:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if len(content) > 1 and answer.status < 300 and self._happens("cut"):
                self.wfile.write(content[: len(content) // 2])
                self.wfile.flush()
                self.close_connection = True
            else:
                self.wfile.write(content)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that has gone

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
