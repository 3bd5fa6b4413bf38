"""Work for a client that may leave before it is done."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from serving import metrics
from serving.errors import RefusedError
from serving.state import service_of

T = TypeVar("T")


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; it is cancelled where the client leaves or the deadline passes first.

    To be called once the request's body is read. Raises ClientDisconnect, RefusedError.
    """
    deadline_s = service_of(request).settings.deadline_s
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait((answer, gone), timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        metrics.DROPPED.inc()
        if gone.done():
            raise ClientDisconnect
        raise RefusedError(
            "deadline",
            f"there was no answer within {deadline_s:g} s; send fewer images, or try again later",
            limit=deadline_s,
        )
    finally:
        answer.cancel()
        gone.cancel()


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
