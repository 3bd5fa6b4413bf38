"""Work for a client that may leave before it is done."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect

from serving import metrics
from serving.errors import RefusedError

T = TypeVar("T")


async def unless_gone(request: Request, work: Coroutine[Any, Any, T], deadline_s: float) -> T:
    """What `work` returns; it is cancelled where the client leaves or the deadline passes first.

    To be called once the request's body is read. Raises ClientDisconnect, or RefusedError with 504.
    """
    answer = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_departure(request))
    try:
        await asyncio.wait((answer, gone), timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        metrics.DROPPED.inc()
        if gone.done():
            raise ClientDisconnect
        raise RefusedError(
            504, "deadline",
            f"there was no answer within {deadline_s:g} s; send fewer images, or try again later",
            limit=deadline_s, setting="SERVING_DEADLINE_S",
        )  # fmt: skip
    finally:
        answer.cancel()
        gone.cancel()


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
