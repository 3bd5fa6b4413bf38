"""A bound on how long a client may take to send a request; uvicorn has none."""

from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

TIMEOUT = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n"
    b"content-type: application/problem+json\r\ncontent-length: %d\r\n\r\n%s"
)
BODY = (
    b'{"type":"about:blank","title":"Request Timeout","status":408,"code":"slow",'
    b'"detail":"the request did not arrive in time","setting":"SERVING_READ_S"}'
)


class DeadlineProtocol(HttpToolsProtocol):
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

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._arm()

    def on_message_complete(self) -> None:
        self._disarm()
        super().on_message_complete()

    def _arm(self) -> None:
        self._disarm()
        read_s = self.app_state["service"].settings.read_s  # from the application's lifespan
        self._deadline = self.loop.call_later(read_s, self._expire)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expire(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(TIMEOUT % (len(BODY), BODY))
        self.transport.close()
