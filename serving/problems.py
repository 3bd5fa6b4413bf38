"""Refusals in plain text, which libraries below the routes write, as problems."""

from secrets import token_hex

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import STATUS, RefusedError

REWRITTEN = {b"content-type", b"content-length"}


class Problems:
    """Around all layers: whatever they refuse is application/problem+json (RFC 9457)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        text = b""

        async def completed(message: Message) -> None:
            nonlocal start, text
            if message["type"] == "http.response.start" and _is_plain(message):
                start = message
            elif start is None:
                await send(message)
            else:
                text += message.get("body", b"")
                if not message.get("more_body"):
                    await _problem(start, text)(scope, receive, send)

        await self.app(scope, receive, completed)


def _is_plain(start: Message) -> bool:
    sent_as = Headers(raw=start["headers"]).get("content-type", "")
    return start["status"] >= 400 and sent_as != "application/problem+json"


def _problem(start: Message, text: bytes) -> ASGIApp:
    status, headers = start["status"], start["headers"]
    request_id = Headers(raw=headers).get("x-request-id") or token_hex(8)
    code = next((code for code, known in STATUS.items() if known == status), "bad-request")
    response = RefusedError(code, text.decode(errors="replace")).response(request_id)
    response.raw_headers += [(name, value) for name, value in headers if name not in REWRITTEN]
    return response
