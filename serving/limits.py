"""A bound on the size of request bodies, and on what all of them hold at once.

FastAPI's own `max_body_size` answers in plain text, and replaces what our handlers would say.
"""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import RefusedError

AT_ONCE = 16
"""Requests of the largest size whose bodies are held in memory together."""


class BodyLimit:
    """Refuses bodies over `max_bytes` with 413: a declared length at once, a streamed one when it
    passes the limit. Refuses with 429 what would make all bodies together too large."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            refusal = self._too_large(int(declared), f"{int(declared):,}")
            await refusal.response(scope["request_id"])(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            length = len(message.get("body", b""))
            seen += length
            self.held_bytes += length
            if seen > self.max_bytes:
                raise self._too_large(seen, f"at least {seen:,}")
            if self.held_bytes > AT_ONCE * self.max_bytes:
                raise RefusedError(
                    429, "busy", "too many uploads are arriving at once; try again in 1 s",
                    retry_after_s=1,
                )  # fmt: skip
            return message

        try:
            await self.app(scope, counted, send)
        finally:
            self.held_bytes -= seen

    def _too_large(self, seen: int, found: str) -> RefusedError:
        return RefusedError(
            413, "body-too-large",
            f"the request has {found} bytes; the limit is {self.max_bytes:,}; "
            "send fewer or smaller images",
            limit=self.max_bytes, seen=seen, setting="SERVING_MAX_UPLOAD_BYTES",
        )  # fmt: skip
