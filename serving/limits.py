"""A bound on the size of request bodies, answered in our shape.

FastAPI's own `max_body_size` answers in plain text, and replaces what our handlers would say.
"""

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import problem


class BodyLimit:
    """Refuses bodies over `max_bytes` with 413: a declared length at once, a streamed one when it
    passes the limit."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > self.max_bytes:
            await problem(413, self._refusal(f"{declared} bytes"))(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise HTTPException(413, self._refusal(f"{seen} bytes and more"))
            return message

        await self.app(scope, counted, send)

    def _refusal(self, found: str) -> str:
        return (
            f"the request has {found}, the limit is {self.max_bytes} (SERVING_MAX_UPLOAD_BYTES); "
            "send a smaller picture"
        )
