"""Bytes to requests: h11's parser, and bounds on what it is given to parse."""

import re
from typing import Any

import h11

from serving.errors import RefusedError

HEAD_BYTES = 65_536
"""Of a request's first line and header fields together."""
FIELDS = 100
"""Header fields of a request."""
LINE_BYTES = 4096
"""Of what stands between the parts of a chunked body, and of all that follows them (trailers)."""
CHUNKS, CHUNK_BYTES = 100, 256
"""Chunks of any size, and the mean size of all beyond them: each takes as long to parse as a small
request."""
ORIGIN = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
BLANK_LINE = re.compile(rb"\n\r?\n")
"""What ends a head, to h11."""


class ParserError(h11.RemoteProtocolError):
    """A request that is not taken, and the refusal that says why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.refusal = RefusedError(code, detail)


class Parser(h11.Connection):
    """h11's, which passes over every proposal to upgrade and then delivers the body (RFC 9110
    §7.8). All that comes before the application is asked is bounded in bytes and in time."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, HEAD_BYTES)
        self.requests = 0
        """How many have begun."""
        self._chunked = False
        self._chunks = self._body_bytes = 0

    def share(self, data: bytes) -> int:
        """How many of these bytes to hand over next: all of a body whose length is known, but of
        lines no more than are bounded."""
        sized = self.their_state is h11.SEND_BODY and not self._chunked
        return len(data) if sized else LINE_BYTES

    def next_event(self) -> Any:
        """h11's. Raises h11.RemoteProtocolError, ParserError among them."""
        if self.their_state is h11.IDLE:
            self._max_incomplete_event_size = HEAD_BYTES
            self._check_head()
        event = super().next_event()
        if isinstance(event, h11.Request):
            self.requests += 1
            self._begin(event)
            if absolute := ORIGIN.match(event.target):  # as a proxy is asked (RFC 9112 §3.2.2)
                target = event.target[absolute.end() :]
                target = target if target.startswith(b"/") else b"/" + target
                return h11.Request(
                    method=event.method, headers=event.headers, target=target,
                    http_version=event.http_version,
                )  # fmt: skip
        elif isinstance(event, h11.Data) and self._chunked:
            self._chunks += event.chunk_start
            self._body_bytes += len(event.data)
            if self._chunks > CHUNKS + self._body_bytes / CHUNK_BYTES:
                raise ParserError(
                    "bad-request",
                    f"the body comes in {self._chunks:,} chunks of {self._body_bytes:,} bytes in "
                    f"all; send chunks of {CHUNK_BYTES} bytes or more",
                )
        elif isinstance(event, h11.EndOfMessage) and len(event.headers) > FIELDS:
            raise head_too_large()
        return event

    def _check_head(self) -> None:
        """Before it is parsed, and while it arrives."""
        received, _ = self.trailing_data
        blank = BLANK_LINE.search(received)
        head = received[: blank.end()] if blank else received
        # A first line and an empty last one beside the fields.
        if len(head) > HEAD_BYTES or head.count(b"\n") > FIELDS + 2:
            raise head_too_large()

    def _begin(self, request: h11.Request) -> None:
        names = {name for name, _ in request.headers}
        self._chunked = b"transfer-encoding" in names
        self._chunks = self._body_bytes = 0
        if not request.http_version.startswith(b"1."):
            raise ParserError(
                "bad-request", f"the request is of HTTP/{request.http_version.decode()}; send it "
                "as HTTP/1.1"
            )  # fmt: skip
        if self._chunked:
            # Two lengths: a proxy that believes the other one sees other requests (RFC 9112 §6.1).
            if b"content-length" in names or request.http_version == b"1.0":
                raise ParserError(
                    "bad-request",
                    "the request has Transfer-Encoding with Content-Length, or in HTTP/1.0; send "
                    "one of the two",
                )
            self._max_incomplete_event_size = LINE_BYTES


def head_too_large() -> ParserError:
    """For header fields that h11 or this parser refuses."""
    return ParserError(
        "head-too-large",
        f"the request's first line and header fields are more than {HEAD_BYTES:,} bytes, or more "
        f"than {FIELDS} fields; send fewer, such as shorter cookies, and files in the body",
    )
