"""A bound on how long a client may take to send a request; uvicorn has none."""

import secrets
from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.errors import RefusedError


class Protocol(HttpToolsProtocol):
    """Closes connections whose first or next request is not read whole within `read_s` seconds.

    Silent and dripping clients alike: what arrives in between does not extend the time. Between
    requests uvicorn's shorter keep-alive timeout rules.
    """

    _deadline: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # An empty line between requests begins none, but ends uvicorn's keep-alive timeout.
        if self._deadline is None and self._between_requests():
            self._arm()
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arm()

    def on_message_complete(self) -> None:
        self._disarm()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(RefusedError("bad-request", msg))

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _arm(self) -> None:
        self._disarm()
        read_s = self.app_state["read_s"]  # from the application's lifespan
        self._deadline = self.loop.call_later(read_s, self._expire, read_s)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self, read_s: float) -> None:
        late = RefusedError(
            "slow",
            f"the request did not arrive in full within {read_s:g} s; send it again",
            limit=read_s,
        )
        self._refuse(late)

    def _refuse(self, error: RefusedError) -> None:
        """Answers, unless an answer has begun, and closes the connection."""
        if self._between_requests() or not self.cycle.response_started:
            request_id = secrets.token_hex(8)
            response = error.response(request_id)
            headers = [
                *response.raw_headers,
                (b"x-request-id", request_id.encode()),
                (b"connection", b"close"),
            ]
            lines = [b"%s: %s\r\n" % header for header in headers]
            head = STATUS_LINE[error.problem.status] + b"".join(lines)
            self.transport.write(head + b"\r\n" + response.body)
        self.transport.close()
