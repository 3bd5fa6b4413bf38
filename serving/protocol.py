"""One connection: its requests, answers and deadlines. All that we know of uvicorn's protocol."""

import secrets
import socket
import sys
from asyncio import TimerHandle
from enum import Enum, auto
from typing import Any

import h11
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from serving.connections import PATIENCE_S, Connections, address_of, cut
from serving.errors import RefusedError
from serving.middleware import QUIET
from serving.parser import Parser, ParserError, head_too_large

LINGER_S = 2.0
"""Time for which what a refused client still sends is read and thrown away: where unread bytes are
left at its end, TCP may drop the refusal."""
LINGER_PAUSE_S = 0.01
"""Time between two reads of it: who sends in small pieces would keep the event loop busy."""
KERNEL_BYTES = 2**17
"""Of an answer that the system may hold until the client reads it, of which it takes twice as many;
of itself it lets that grow to some megabytes, which no deadline sees."""


class Phase(Enum):
    """What a connection waits for."""

    REQUEST = auto()
    """The rest of a request, or of a body that is not needed any more."""
    ANSWER = auto()
    """The application."""
    READER = auto()
    """The client, to receive an answer."""
    NEXT = auto()
    """The client, to begin a request."""
    END = auto()
    """The client, to close a connection that has been refused."""


class Protocol(H11Protocol):
    """uvicorn's, but that each phase of a connection has a deadline, which nothing that happens
    within the phase extends; that connections are bounded; that every refusal is one of ours."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn: Parser = Parser()
        self.members: Connections = self.app_state["connections"]  # from the lifespan
        self.address = ""
        settings = self.members.settings
        self._seconds = {
            Phase.REQUEST: settings.read_s,
            # The application's own deadline comes first.
            Phase.ANSWER: settings.deadline_s + settings.write_s,
            Phase.READER: settings.write_s,
            Phase.NEXT: self.timeout_keep_alive,
            Phase.END: LINGER_S,
        }
        self._timer: TimerHandle | None = None
        self._timed: tuple = ()
        """What the timer is for."""
        self._begun = True
        """A request has been asked for, or some of it has arrived, but not its head."""
        self._slow = 0
        """The last request whose answer was not received as fast as it was sent."""
        self._refused = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if connected := transport.get_extra_info("socket"):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        self.address = address_of(self.client[0] if self.client else "")
        if not self.members.admit(self):
            self.app = _Crowded(self, self.app)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self.members.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            self.flow.pause_reading()
            self.loop.call_later(LINGER_PAUSE_S, self._read_on)
            return
        self._unset_keepalive_if_required()
        if self.conn.their_state is h11.IDLE:
            self._begun = True
            if not self.conn.trailing_data[0]:
                data = data.lstrip(b"\r\n")  # older clients end a body with it (RFC 9112 §2.2)
        while data and not self._refused:
            share = self.conn.share(data)
            super().data_received(data[:share])
            data = data[share:]
        self._watch()

    def handle_events(self) -> None:
        before = self.conn.requests
        super().handle_events()
        if self.conn.requests != before:
            self._begun = False

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._slow = self.conn.requests
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        match sys.exc_info()[1]:
            case ParserError() as error:
                self._refuse(error.refusal)
            case h11.RemoteProtocolError(error_status_hint=431):
                self._refuse(head_too_large().refusal)
            case _:
                self._refuse(RefusedError("bad-request", msg))

    def _should_upgrade(self) -> bool:
        return False  # nor would it, but it would log two lines for each proposal

    def _between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _phase(self) -> Phase:
        if self._refused:
            return Phase.END
        if self.flow.write_paused or self.transport.is_closing():
            return Phase.READER
        if self._between_requests():
            unread = self.conn.their_state is not h11.IDLE or self.conn.trailing_data[0]
            return Phase.REQUEST if self._begun or unread else Phase.NEXT
        if self._slow == self.conn.requests:  # also while it reads a little
            return Phase.READER
        return Phase.REQUEST if self.cycle.more_body else Phase.ANSWER

    def _watch(self) -> None:
        """Start the time of a phase, where another has begun."""
        phase = self._phase()
        if self._between_requests() or self._refused:
            self.members.rest(self)
        elif phase is Phase.READER:
            self.members.rest(self, PATIENCE_S)
        else:
            self.members.busy(self)
        timed = phase, self.conn.requests, self._begun
        if timed == self._timed:
            return
        self._timed = timed
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self._seconds[phase], self._expire, phase)

    def _expire(self, phase: Phase) -> None:
        seconds = self._seconds[phase]
        match phase:
            case Phase.REQUEST:
                detail = f"the request did not arrive in full within {seconds:g} s; send it again"
                self._refuse(RefusedError("slow", detail, limit=seconds))
            case Phase.ANSWER:
                detail = f"there was no answer within {seconds:g} s; try again later"
                self._refuse(RefusedError("deadline", detail, limit=seconds))
            case Phase.NEXT if not self.transport.get_write_buffer_size():
                self.transport.close()
            case _:
                cut(self.transport)

    def _refuse(self, error: RefusedError) -> None:
        """Answers, unless an answer has begun, and ends the connection."""
        if self._refused:
            return
        self._refused = True
        under_way = not self._between_requests()
        if under_way:
            # The application hears of it, and nothing that it still sends follows the refusal.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        answered = self.cycle.response_started if under_way else self._discarding()
        if not answered:
            self.transport.write(_as_bytes(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.flow.resume_reading()
        self._watch()

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _discarding(self) -> bool:
        """A request has been answered before its body has arrived."""
        return self.cycle is not None and self.conn.their_state is h11.SEND_BODY


def _as_bytes(error: RefusedError) -> bytes:
    request_id = secrets.token_hex(8)
    response = error.response(request_id)
    headers = [
        *response.raw_headers,
        (b"x-request-id", request_id.encode()),
        (b"connection", b"close"),
    ]
    status = f"HTTP/1.1 {error.problem.status} {error.problem.title}\r\n".encode()
    return status + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n" + response.body


class _Crowded:
    """What a connection beyond the bound reaches until it has a place: the routes of health."""

    def __init__(self, connection: Protocol, app: ASGIApp) -> None:
        self.connection, self.app = connection, app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        members = self.connection.members
        members.leave(self.connection)
        if members.admit(self.connection):
            self.connection.app = self.app
            members.busy(self.connection)
        elif scope["path"] not in QUIET:
            request_id = secrets.token_hex(8)
            refusal = RefusedError(
                "too-many-connections",
                f"the server has no connection free: it takes {members.most:,}, and "
                f"{members.most_of_address:,} of one address; try again in 1 s",
                limit=members.most,
                retry_after_s=1,
                headers={"X-Request-Id": request_id},
            )
            await refusal.response(request_id)(scope, receive, send)
            return
        await self.app(scope, receive, send)
