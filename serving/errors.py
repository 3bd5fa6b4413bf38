"""Every refusal in one shape, application/problem+json, and from one table."""

from http import HTTPStatus
from typing import Self

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from alexnet.fault import described
from alexnet.pixels import PictureError, Refusal
from serving import metrics
from serving.schemas import Problem

STATUS: dict[Refusal, int] = {
    "empty": 400,
    "damaged": 400,
    "too-large": 413,
    "not-an-image": 415,
}


class RefusedError(Exception):
    """A request that gets no answer; `code` is for programs, `detail` for people."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        limit: float | None = None,
        seen: float | None = None,
        setting: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
        self.problem = Problem(
            title=HTTPStatus(status).phrase, status=status, code=code, detail=detail,
            limit=limit, seen=seen, setting=setting,
        )  # fmt: skip

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The refusal that a picture's problem is where it is the only picture."""
        return cls(
            problem.status, problem.code, problem.detail,
            limit=problem.limit, seen=problem.seen, setting=problem.setting,
        )  # fmt: skip

    def response(self, request_id: str) -> JSONResponse:
        metrics.REFUSED.labels(self.problem.code).inc()
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}
        if self.problem.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(
            self.problem.model_copy(update={"request_id": request_id}).model_dump(
                exclude_none=True
            ),
            self.problem.status,
            headers,
            media_type="application/problem+json",
        )


def draining() -> RefusedError:
    """Where the server is about to end."""
    return RefusedError(503, "draining", "the server is shutting down", retry_after_s=1)


def of_picture(error: PictureError) -> RefusedError:
    """Why a picture gets no answer."""
    setting = f"SERVING_MAX_{error.what.upper()}" if error.what else None
    return RefusedError(
        STATUS[error.kind], error.kind, str(error),
        limit=error.limit, seen=error.seen, setting=setting,
    )  # fmt: skip


def install(app: FastAPI) -> None:
    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        return error.response(request.scope["request_id"])

    @app.exception_handler(PictureError)
    async def bad_picture(request: Request, error: PictureError) -> JSONResponse:
        return await refused(request, of_picture(error))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        detail = (
            f"{request.method} {request.url.path[:128]}: {error.detail}; /docs lists the routes"
        )
        return await refused(request, RefusedError(error.status_code, code, detail))

    @app.exception_handler(RequestValidationError)
    async def bad_request(request: Request, error: RequestValidationError) -> JSONResponse:
        # Without the value, which may be a whole upload.
        first = described(error.errors()[0])
        return await refused(
            request, RefusedError(422, "bad-parameter", f"{first.field}: {first.reason}")
        )
