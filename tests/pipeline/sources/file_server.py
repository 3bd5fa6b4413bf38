"""A server of one file that breaks off, ignores what is asked, or lies."""

import hashlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pipeline.sources.download import Remote

CONTENT = random.Random(0).randbytes(1_000_000)
Answer = Callable[["Request", bytes, int], None]


class Request(BaseHTTPRequestHandler):
    """Answers the n-th request with the n-th of the server's answers, the last one for ever."""

    server: "Server"

    def do_GET(self) -> None:
        asked = self.headers["Range"]
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        number = min(len(self.server.ranges), len(self.server.answers)) - 1
        self.server.answers[number](self, self.server.content, start)

    def answer(self, status: int, length: int | None, body: bytes) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        with suppress(ConnectionError):  # of a client that has gone
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.content = CONTENT
        self.answers: list[Answer] = [rest]
        self.ranges: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}/x.tgz"

    @property
    def remote(self) -> Remote:
        return Remote(self.url, len(self.content), hashlib.sha256(self.content).hexdigest())


def rest(request: Request, content: bytes, start: int) -> None:
    request.answer(206, len(content) - start, content[start:])


def half_of_the_rest(request: Request, content: bytes, start: int) -> None:
    half = (len(content) - start) // 2
    request.answer(206, len(content) - start, content[start : start + half])


def half_and_a_reset(request: Request, content: bytes, start: int) -> None:
    half_of_the_rest(request, content, start)
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()


def whole(request: Request, content: bytes, start: int) -> None:
    request.answer(200, len(content), content)


def whole_of_unsaid_length(request: Request, content: bytes, start: int) -> None:
    request.answer(200, None, content + b"and more")


def zeros(request: Request, content: bytes, start: int) -> None:
    request.answer(206, len(content) - start, bytes(len(content) - start))


def notice(request: Request, content: bytes, start: int) -> None:
    request.answer(200, 19, b"<html>Log in</html>")


def status(code: int) -> Answer:
    return lambda request, content, start: request.answer(code, 0, b"")


@contextmanager
def running() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
