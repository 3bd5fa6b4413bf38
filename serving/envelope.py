"""What every answer has around it: a request's name, safe headers, a line in the log, a count."""

import asyncio
import logging
import re
import secrets
import time

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving import metrics
from serving.errors import RefusedError, draining

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
GONE = 499
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
"""Asked every few seconds; in the log only where they fail."""

log = logging.getLogger("serving.access")


class Envelope:
    """Outermost, so that refusals of the layers below have it too, and faults an answer at all."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope["request_id"] = request_id
        status = 0

        async def enveloped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message["headers"], (b"x-request-id", request_id.encode()), *HEADERS]
                if scope["app"].state.service.draining:
                    headers.append((b"connection", b"close"))
                message["headers"] = headers
            await send(message)

        try:
            await self.app(scope, receive, enveloped)
        except ClientDisconnect:
            status = GONE
        except asyncio.CancelledError:  # by uvicorn, where SERVING_DRAIN_S have passed
            if not status:
                await draining().response(request_id)(scope, receive, enveloped)
        except Exception:
            logging.getLogger("serving").exception(
                "internal error", extra={"request_id": request_id}
            )
            if not status:
                fault = RefusedError(
                    500, "fault", "the server has an internal error; its log has the details"
                )
                await fault.response(request_id)(scope, receive, enveloped)
        finally:
            self._account(scope, status or GONE, request_id, time.perf_counter() - started)

    def _account(self, scope: Scope, status: int, request_id: str, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        metrics.REQUESTS.labels(route, _method(scope), status).inc()
        metrics.REQUEST_SECONDS.labels(route).observe(seconds)
        if route in QUIET and status < 400:
            return
        log.info(
            "request",
            extra={
                "request_id": request_id,
                "method": _method(scope),
                "path": scope["path"][:128],
                "status": status,
                "seconds": round(seconds, 4),
                "client": (scope.get("client") or ("",))[0],
            },
        )


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "POST", "HEAD") else "other"
