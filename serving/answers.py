"""The routes that answer about pictures and the model. Each is glue: typed input, one call."""

import json
import time
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response, Security
from fastapi import Path as InPath
from pydantic import BaseModel

from serving.card import card
from serving.departure import unless_gone
from serving.errors import RefusedError
from serving.keys import KeyRequired
from serving.models import Served
from serving.neighbours import Neighbours
from serving.pictures import kernel_sheet
from serving.schemas import (
    Base64Parameters,
    Card,
    Classification,
    IndexName,
    Problem,
    Score,
    Similar,
)
from serving.service import Service, Views
from serving.upload import Upload, read


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may refuse with, for the documentation."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in statuses
    }


_FILE = {"type": "string", "format": "binary"}
_PICTURE = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["file"],
            "properties": {"file": {"type": "array", "items": _FILE, "minItems": 1}},
        }
    },
    "image/jpeg": {"schema": _FILE},
    "image/png": {"schema": _FILE},
    "image/webp": {"schema": _FILE},
}
PICTURE = {"requestBody": {"required": True, "content": _PICTURE}}
BASE64 = {
    "application/json": {
        "schema": {
            "type": "object",
            "required": ["inputs"],
            "additionalProperties": False,
            "properties": {
                "inputs": {"type": "string", "contentEncoding": "base64"},
                "parameters": Base64Parameters.model_json_schema(),
            },
        }
    }
}
PICTURES = {"requestBody": {"required": True, "content": _PICTURE | BASE64}}

UPLOAD = problems(400, 408, 413, 415, 422, 429, 504)
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {"schema": _FILE}}}}
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {"schema": _FILE}}}}

router = APIRouter(
    tags=["Images"], dependencies=[Security(KeyRequired())], responses=problems(401, 403, 503)
)


@router.post(
    "/classify",
    summary="Label one or more images",
    responses=UPLOAD | {200: {"model": Classification | list[Score]}},
    openapi_extra=PICTURES,
)
async def classify(
    request: Request,
    top_k: Annotated[
        int, Query(ge=1, le=100, description="How many labels to return for each image.")
    ] = 5,
    views: Annotated[
        Views,
        Query(
            description="How many crops of each image to average: 1 is the centre; 10 are the "
            "corners and the centre, also mirrored, as in the paper (§4.1)."
        ),
    ] = Views.TEN,
    detail: Annotated[
        Literal["views"] | None,
        Query(description="`views` adds the labels of each single view; for forms only."),
    ] = None,
) -> Response:
    """Returns the most probable labels of each image.

    A multipart form (one or more files in the field `file`) is answered with the full result. An
    image as the request's body, and the JSON that Hugging Face's clients send, are answered with a
    plain list of labels and scores, as those clients expect; the rest is in the headers.
    """
    service, started = _service(request), time.perf_counter()
    served = service.served()
    sent = await _read(request)
    read_s = time.perf_counter() - started
    results = await unless_gone(
        request,
        service.classify(served, sent.pictures, views, sent.top_k or top_k, detail == "views"),
        service.settings.deadline_s,
    )
    answer_s = time.perf_counter() - started - read_s
    if len(results) == 1 and (problem := results[0].problem):
        raise RefusedError.of(problem)
    headers = _named(served) | {
        "X-Views": str(int(views)),
        "Server-Timing": f"read;dur={1000 * read_s:.1f}, answer;dur={1000 * answer_s:.1f}",
    }
    if sent.kind == "multipart":
        name = served.name
        return _json(Classification(results=results, views=views, model=name), headers)
    scores = [
        {"label": guess.label, "score": guess.probability} for guess in results[0].guesses or ()
    ]
    return Response(json.dumps(scores), headers=headers, media_type="application/json")


@router.post(
    "/similar",
    summary="Find the most similar training images",
    responses=UPLOAD | problems(404) | {200: {"model": Similar}},
    openapi_extra=PICTURE,
)
async def similar(
    request: Request,
    k: Annotated[int, Query(ge=1, le=50, description="How many images to return.")] = 6,
) -> Response:
    """Returns the training images most similar to an image: those nearest to it in the network's
    last hidden layer (§6.1, Figure 4)."""
    service = _service(request)
    served = service.served()
    neighbours = _neighbours(served)
    data = await _one(request)
    found = await unless_gone(
        request, service.similar(served, neighbours, data, k), service.settings.deadline_s
    )
    index = IndexName(pictures=neighbours.about.pictures, dataset=neighbours.about.dataset)
    answer = Similar(neighbours=found, index=index, model=served.name)
    return _json(answer, _named(served))


@router.get(
    "/thumbnails/{picture}", summary="Get a training image", responses=problems(404, 422) | JPEG
)
async def thumbnail(request: Request, picture: Annotated[int, InPath(ge=0)]) -> Response:
    """Returns a training image as a small JPEG."""
    neighbours = _neighbours(_service(request).served())
    if picture >= neighbours.about.pictures:
        raise RefusedError(
            404, "not-found",
            f"there is no training image {picture}; the index numbers its "
            f"{neighbours.about.pictures:,} images from 0",
        )  # fmt: skip
    return Response(neighbours.thumbnail(picture), media_type="image/jpeg")


@router.post(
    "/explain",
    summary="Show which parts of an image speak for a label",
    responses=UPLOAD | PNG,
    openapi_extra=PICTURE,
)
async def explain(
    request: Request,
    label: Annotated[
        str | None,
        Query(description="Id of a class, as in `/info`; by default the most probable class."),
    ] = None,
) -> Response:
    """Returns a PNG that shows which parts of an image speak for a label.

    Hiding a red part lowers the label's probability, hiding a blue part raises it (occlusion,
    Zeiler and Fergus 2013). The image is drawn as the network sees it: cropped and scaled.
    """
    service = _service(request)
    served = service.served()
    data = await _one(request)
    png, guess = await unless_gone(
        request, service.explain(served, data, label), service.settings.deadline_s
    )
    headers = _named(served) | {
        "X-Label-Id": _ascii(guess.id),
        "X-Label": _ascii(guess.label),
        "X-Probability": f"{guess.probability:.4f}",
    }
    return Response(png, headers=headers, media_type="image/png")


@router.get("/kernels.png", summary="Draw the kernels of the first layer", responses=PNG)
async def kernels(request: Request) -> Response:
    """Returns the kernels of the first layer, conv1, as a PNG (§6.1, Figure 3)."""
    kernel_C3HW = _service(request).served().predictor.network.conv1.weight
    return Response(kernel_sheet(kernel_C3HW.float().cpu()), media_type="image/png")


@router.get("/info", summary="Describe the model and the server's limits")
async def info(request: Request) -> Card:
    """Returns the model card and the server's limits."""
    service = _service(request)
    return card(service.served(), service)


def _service(request: Request) -> Service:
    return request.app.state.service


async def _read(request: Request) -> Upload:
    service = _service(request)
    service.batcher.check_room()  # before a body is read that there is no room for
    return await read(request, service.settings.max_files)


async def _one(request: Request) -> bytes:
    pictures = (await _read(request)).pictures
    if len(pictures) > 1:
        raise RefusedError(
            422, "one-picture",
            f"the request has {len(pictures)} images, but this route takes one; "
            "send a request for each image",
        )  # fmt: skip
    return pictures[0]


def _neighbours(served: Served) -> Neighbours:
    if served.neighbours is None:
        raise RefusedError(
            404, "no-index",
            f"the model {served.predictor.about.name} has no index of its training images; "
            "make one with `alexnet index MODEL DATASET`",
        )  # fmt: skip
    return served.neighbours


def _named(served: Served) -> dict[str, str]:
    name = served.name
    return {
        "X-Model": _ascii(name.name),
        "X-Model-Step": str(name.step),
        "X-Model-Sha256": name.sha256,
    }


def _ascii(text: str) -> str:
    """For a header, which holds nothing else."""
    return text.encode("ascii", "backslashreplace").decode()


def _json(answer: BaseModel, headers: dict[str, str]) -> Response:
    body = answer.model_dump_json(exclude_none=True)
    return Response(body, headers=headers, media_type="application/json")
