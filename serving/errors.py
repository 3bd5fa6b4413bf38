"""Every refusal in one shape, application/problem+json, and with a status from one table."""

from collections.abc import Mapping
from http import HTTPStatus

import torch
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from alexnet.fault import described
from alexnet.pixels import ImageError
from serving import metrics
from serving.batcher import VIEWS, QueueFullError
from serving.decoder import DecoderDiedError
from serving.formats import OtherFormatError
from serving.models import NotReadyError
from serving.neighbours import LostError
from serving.room import NoRoomError
from serving.schemas import Problem
from serving.service import RequestTooLargeError

STATUS = {
    "bad-request": 400, "damaged": 400, "empty": 400, "multipart": 400,
    "no-key": 401,
    "unknown-key": 403,
    "no-index": 404, "not-found": 404,
    "method-not-allowed": 405,
    "slow": 408,
    "body-too-large": 413, "too-large": 413, "too-many-files": 413,
    "too-many-pixels": 413,
    "content-encoding": 415, "content-type": 415, "not-an-image": 415,
    "unsupported": 415,
    "bad-parameter": 422, "no-file": 422, "one-picture": 422,
    "busy": 429, "queue-full": 429,
    "head-too-large": 431,
    "fault": 500,
    "dead": 503, "decoder-died": 503, "draining": 503, "not-ready": 503, "out-of-memory": 503,
    "too-many-connections": 503,
    "deadline": 504,
}  # fmt: skip
"""{code: HTTP status} of all refusals."""
SETTING = {
    "body-too-large": "SERVING_MAX_UPLOAD_BYTES",
    "deadline": "SERVING_DEADLINE_S",
    "queue-full": "SERVING_QUEUE_PICTURES",
    "slow": "SERVING_READ_S",
    "too-many-connections": "SERVING_MAX_CONNECTIONS",
    "too-many-files": "SERVING_MAX_FILES",
    "too-many-pixels": "SERVING_MAX_REQUEST_PIXELS",
}
"""{code: environment variable that sets the limit}, where there is only one."""


class RefusedError(Exception):
    """A request that gets no answer; `code` is one of STATUS, `detail` is for people."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        limit: float | None = None,
        seen: float | None = None,
        setting: str | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.headers = dict(headers or {})
        if retry_after_s:
            self.headers["Retry-After"] = str(retry_after_s)
        self.problem = Problem(
            title=HTTPStatus(STATUS[code]).phrase, status=STATUS[code], code=code, detail=detail,
            limit=limit, seen=seen, setting=setting or SETTING.get(code),
        )  # fmt: skip

    def response(self, request_id: str) -> JSONResponse:
        metrics.REFUSED.labels(self.problem.code).inc()
        headers = dict(self.headers)
        if self.problem.status == HTTPStatus.UNAUTHORIZED:
            headers["WWW-Authenticate"] = "Bearer"
        problem = self.problem.model_copy(update={"request_id": request_id})
        return JSONResponse(
            problem.model_dump(exclude_none=True),
            problem.status,
            headers,
            media_type="application/problem+json",
        )


def draining() -> RefusedError:
    """Where the server is about to end."""
    return RefusedError("draining", "the server is shutting down", retry_after_s=1)


def no_room(error: NoRoomError) -> RefusedError:
    """Where others have what a request needs."""
    return RefusedError(
        "busy", f"{error}; try again in 1 s", limit=error.limit, seen=error.seen, retry_after_s=1
    )


def of_image(error: ImageError) -> RefusedError:
    """Why an image gets no answer."""
    if isinstance(error, DecoderDiedError):
        return RefusedError("decoder-died", str(error), retry_after_s=1)
    setting = f"SERVING_MAX_{error.what.upper()}" if error.what else None
    if error.what == "memory":
        setting = "SERVING_MEMORY"
    if isinstance(error, OtherFormatError):
        setting = "SERVING_FORMATS"
    return RefusedError(error.kind, str(error), limit=error.limit, seen=error.seen, setting=setting)


def install(app: FastAPI) -> None:
    """Whatever a route raises, the layers below it or the framework, is answered as a refusal."""

    async def refused(request: Request, error: Exception) -> JSONResponse:
        return _refusal(request, error).response(request.scope["request_id"])

    for kind in (
        RefusedError, ImageError, QueueFullError, NoRoomError, RequestTooLargeError, NotReadyError,
        LostError, HTTPException, RequestValidationError, torch.OutOfMemoryError,
    ):  # fmt: skip
        app.add_exception_handler(kind, refused)


def _refusal(request: Request, error: Exception) -> RefusedError:
    match error:
        case RefusedError():
            return error
        case ImageError():
            return of_image(error)
        case QueueFullError():
            return RefusedError(
                "queue-full", f"the queue is full; try again in {error.retry_s} s",
                limit=error.limit_views / VIEWS, seen=error.seen_views / VIEWS,
                retry_after_s=error.retry_s,
            )  # fmt: skip
        case NoRoomError():
            return no_room(error)
        case RequestTooLargeError():
            return RefusedError(
                "too-many-pixels", f"{error}; send them in several requests",
                limit=error.limit, seen=error.seen,
            )  # fmt: skip
        case NotReadyError() | LostError():
            return RefusedError("not-ready", f"not ready: {error}", retry_after_s=2)
        case torch.OutOfMemoryError():
            return RefusedError(
                "out-of-memory", "the GPU has no memory left; try again in 2 s", retry_after_s=2
            )
        case HTTPException():
            code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
            place = f"{request.method[:16]} {request.url.path[:128]}"
            headers = dict(error.headers or {})
            if "Allow" in headers:
                methods = set(headers["Allow"].split(", "))
                # The middleware answers HEAD wherever there is GET.
                methods |= {"HEAD"} if "GET" in methods else set()
                headers["Allow"] = ", ".join(sorted(methods))
            return RefusedError(
                code if code in STATUS else "bad-request",
                f"{place}: {error.detail}; /docs lists the routes",
                headers=headers,
            )
        case RequestValidationError():
            first = described(error.errors()[0])  # without the value, which may be a whole upload
            return RefusedError("bad-parameter", f"{first.field}: {first.reason}")
    raise error
