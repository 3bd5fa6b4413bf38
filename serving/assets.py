"""The files of the pages, from memory: read from disk, each piece takes a thread a turn, and a few
clients that ask for large ones take the processors from the model."""

import hashlib
import mimetypes
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PIECE_BYTES = 2**16
"""Between which the server waits for a client that is slower."""


class Asset(Response):
    """A file as it was when it was read. Ranges are passed over, as RFC 9110 (§14.2) allows."""

    def __init__(self, file: Path) -> None:
        self.data = file.read_bytes()
        kind, _ = mimetypes.guess_type(file.name)
        super().__init__(media_type=kind or "application/octet-stream")
        self.headers["content-length"] = str(len(self.data))
        self.headers["etag"] = f'"{hashlib.sha256(self.data).hexdigest()[:32]}"'

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        seen = ",".join(Headers(scope=scope).getlist("if-none-match"))
        known = {tag.strip().removeprefix("W/") for tag in seen.split(",")}
        if known & {"*", self.headers["etag"]}:
            headers = [pair for pair in self.raw_headers if pair[0] == b"etag"]
            await send({"type": "http.response.start", "status": 304, "headers": headers})
            await send({"type": "http.response.body"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        data = memoryview(self.data if scope["method"] == "GET" else b"")
        for start in range(0, len(data), PIECE_BYTES):
            piece = bytes(data[start : start + PIECE_BYTES])
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})


class Assets:
    """The files of a folder by their names; 404 for all else, what makes it a package among it."""

    def __init__(self, folder: Path) -> None:
        files = (path for path in folder.iterdir() if path.is_file() and path.suffix != ".py")
        self.files = {file.name: Asset(file) for file in files}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix(scope["root_path"]).removeprefix("/")
        if name not in self.files:
            raise HTTPException(404)
        await self.files[name](scope, receive, send)
