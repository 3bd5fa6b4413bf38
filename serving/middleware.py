"""What surrounds the routes: request ids, safe headers, the access log, HEAD; a bound on bodies."""

import asyncio
import logging
import re
import secrets
import time

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics
from serving.authentication import client_of
from serving.errors import RefusedError, draining, no_room
from serving.room import NoRoomError
from serving.state import service_of

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CLIENT_CLOSED_REQUEST = 499
"""Logged where the client left before its answer."""
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        b"connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
QUIET = {"/livez", "/readyz", "/startupz", "/metrics"}
"""Asked every few seconds, by who waits for the server: metrics count them, the log does not."""

log = logging.getLogger("serving.access")


class RequestMiddleware:
    """Around all but CORS, so that refusals of the layers below have it too, and faults an answer
    at all."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        method = _method(scope)
        if method == "HEAD":
            # The headers of GET; the server that calls this leaves out the body (RFC 9110 §9.3.2).
            scope = {**scope, "method": "GET"}
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope["request_id"] = request_id
        status = 0

        async def completed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", request_id.encode()), *HEADERS]
                if service_of(HTTPConnection(scope)).draining:
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            await send(message)

        try:
            await self.app(scope, receive, completed)
        except ClientDisconnect:
            status = CLIENT_CLOSED_REQUEST
        except asyncio.CancelledError:  # by uvicorn, where SERVING_DRAIN_S have passed
            if not status:
                await draining().response(request_id)(scope, receive, completed)
        except NoRoomError as error:  # another client has come, which holds less
            if not status:
                await no_room(error).response(request_id)(scope, receive, completed)
        except Exception:
            logging.getLogger("serving").exception(
                "internal error", extra={"request_id": request_id}
            )
            if not status:
                fault = RefusedError(
                    "fault", "the server has an internal error; its log has the details"
                )
                await fault.response(request_id)(scope, receive, completed)
        finally:
            seconds = time.perf_counter() - started
            self._record(scope, method, status or CLIENT_CLOSED_REQUEST, request_id, seconds)

    def _record(
        self, scope: Scope, method: str, status: int, request_id: str, seconds: float
    ) -> None:
        route = getattr(scope.get("route"), "path", "other")
        metrics.REQUESTS.labels(route, method, status).inc()
        metrics.REQUEST_SECONDS.labels(route).observe(seconds)
        if route in QUIET:
            return
        log.info(
            "request",
            extra={
                "request_id": request_id,
                "method": method,
                "path": scope["path"][:128],
                "status": status,
                "seconds": round(seconds, 4),
                "client": (scope.get("client") or ("",))[0],
            },
        )


class BodyLimit:
    """Refuses bodies over `max_bytes` with 413: a declared length at once, a streamed one when it
    passes the limit. Refuses with 429 what would make all bodies together too large, or more than
    those of a client that needs the room and holds less.

    FastAPI's own `max_body_size` answers in plain text, and replaces what our handlers would say.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            refusal = self._too_large(int(declared), f"{int(declared):,}")
            await refusal.response(scope["request_id"])(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        with service_of(connection).bodies.hold(client_of(connection)) as held:

            async def counted() -> Message:
                message = await receive()
                held.grow(len(message.get("body", b"")))
                if held.amount > self.max_bytes:
                    raise self._too_large(held.amount, f"at least {held.amount:,}")
                return message

            await self.app(scope, counted, send)

    def _too_large(self, seen: int, found: str) -> RefusedError:
        return RefusedError(
            "body-too-large",
            f"the request has {found} bytes; the limit is {self.max_bytes:,}; "
            "send fewer or smaller images",
            limit=self.max_bytes,
            seen=seen,
        )


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
