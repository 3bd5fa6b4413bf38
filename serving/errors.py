"""Every refusal in one shape, application/problem+json, and from one table."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from alexnet.pixels import PictureError, Refusal
from serving.schemas import Problem

STATUS: dict[Refusal, int] = {
    "empty": 400,
    "damaged": 400,
    "too-large": 413,
    "not-an-image": 415,
}


def problem(status: int, detail: str) -> JSONResponse:
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    return JSONResponse(body.model_dump(), status, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    @app.exception_handler(PictureError)
    async def bad_picture(_: Request, error: PictureError) -> JSONResponse:
        return problem(STATUS[error.kind], str(error))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        # Place and message only: pydantic would echo the input, here a whole upload.
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return problem(422, f"{place}: {first['msg']}")
