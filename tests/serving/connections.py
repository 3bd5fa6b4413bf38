"""Clients that real servers meet: many at once, and raw sockets that stop where they like."""

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPResponse
from io import BufferedReader
from typing import Any, NamedTuple, Self

import httpx2 as httpx

BOUNDARY = b"b"
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: server\r\n\r\n"


class Answer(NamedTuple):
    client: int
    asked_at: float
    """time.monotonic()."""
    seconds: float
    response: httpx.Response | None
    """None where the connection was closed, or refused, without one."""


@contextmanager
def load(url: str, image: bytes, clients: int = 4) -> Iterator[list[Answer]]:
    """Clients who ask on a connection each, again as soon as they are answered; all answers."""
    answers: list[Answer] = []
    done = threading.Event()

    def ask(number: int) -> None:
        with httpx.Client(base_url=url, timeout=240) as client:
            while not done.is_set():
                asked_at = time.monotonic()
                response = None
                with suppress(httpx.NetworkError, httpx.RemoteProtocolError):
                    response = client.post("/classify?top_k=7", files={"file": ("p", image)})
                if response is None:
                    done.wait(0.05)
                answers.append(Answer(number, asked_at, time.monotonic() - asked_at, response))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()


def head(length: int | None, path: str = "/classify") -> bytes:
    """The head of a multipart upload of that many bytes; of a chunked one without."""
    size = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return (
        b"POST %s HTTP/1.1\r\nHost: server\r\nContent-Type: multipart/form-data; boundary=%s\r\n"
        b"%s\r\n\r\n" % (path.encode(), BOUNDARY, size)
    )


def form(*images: bytes) -> bytes:
    part = b'--%s\r\nContent-Disposition: form-data; name="file"; filename="p"\r\n\r\n%s\r\n'
    return b"".join(part % (BOUNDARY, image) for image in images) + b"--%s--\r\n" % BOUNDARY


def upload(*images: bytes) -> bytes:
    """A whole request."""
    body = form(*images)
    return head(len(body)) + body


class _Kept:
    """What arrives on a socket, from which one response after another is read."""

    def __init__(self, file: BufferedReader) -> None:
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def makefile(self, mode: str) -> Self:
        return self

    def close(self) -> None:
        """The next response is read from it too."""


class Connection:
    """A raw one, to send bytes on when and as one likes."""

    def __init__(self, url: str, timeout_s: float = 240, source: str = "") -> None:
        host, port = url.removeprefix("http://").split(":")
        self.socket = socket.create_connection((host, int(port)), timeout_s, (source, 0))
        self._received = _Kept(self.socket.makefile("rb"))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def drip(self, data: bytes, every_s: float, for_s: float) -> bytes:
        """Send it again and again until the server says something or closes; what it says."""
        with suppress(ConnectionError):
            for _ in range(round(for_s / every_s)):
                if select.select([self.socket], [], [], every_s)[0]:
                    return self.socket.recv(1 << 16)
                self.send(data)
        return b""

    def is_silent(self) -> bool:
        """The server has said nothing, for a moment longer."""
        return not select.select([self.socket], [], [], 0.01)[0]

    def answer(self) -> HTTPResponse:
        """The next one, read whole. Raises ConnectionError where there is none."""
        response = HTTPResponse(self._received)  # type: ignore[arg-type]
        response.begin()
        response.body = response.read()  # type: ignore[attr-defined]
        return response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._received._file.close()
        self.socket.close()
