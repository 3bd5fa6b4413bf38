"""The routes that answer about images and the model. Each is glue: typed input, one call."""

import json
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response, Security
from fastapi import Path as InPath
from pydantic import BaseModel
from torch import Tensor

from alexnet.guess import guesses, none_of_these
from alexnet.pixels import ImageError
from alexnet.predictor import Predictor
from alexnet.similar import COMMAND
from alexnet.views import five_places, one_place
from serving.authentication import KeyRequired, client_of
from serving.cancellation import unless_disconnected
from serving.card import card
from serving.errors import RefusedError, of_image
from serving.models import Served
from serving.neighbours import Neighbours
from serving.openapi import IMAGE, IMAGES, UPLOAD, file, refusals
from serving.schemas import (
    Card,
    Classification,
    IndexName,
    Neighbour,
    Result,
    Score,
    Similar,
    Vote,
)
from serving.service import Views
from serving.state import service_of
from serving.upload import Upload, read
from serving.visualization import kernel_sheet

router = APIRouter(
    tags=["Images"],
    dependencies=[Security(KeyRequired())],
    responses=refusals("no-key", "unknown-key", "not-ready"),
)


@router.post(
    "/classify",
    summary="Label one or more images",
    responses=UPLOAD | {200: {"model": Classification | list[Score]}},
    openapi_extra=IMAGES,
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
    min_probability: Annotated[
        float | None,
        Query(
            ge=0,
            le=1,
            description="The least probability of an answer: an image whose best guess has less is "
            "marked as none of these classes. By default what was published with the model for so "
            "many views, if anything was; 0 marks nothing.",
        ),
    ] = None,
    detail: Annotated[
        Literal["views"] | None,
        Query(description="`views` adds the labels of each single view; for forms only."),
    ] = None,
) -> Response:
    """Returns the most probable labels of each image.

    A multipart form (one or more files in the field `file`) is answered with the full result. An
    image as the request's body, and the JSON that Hugging Face's clients send, are answered with a
    plain list of labels and scores, as those clients expect; the rest is in the headers, among
    them `X-None-Of-These`, and the list is not shorter for it.
    """
    started = time.perf_counter()
    served = service_of(request).models.ready()
    sent = await _read(request)
    read_s = time.perf_counter() - started
    votes = await unless_disconnected(
        request, service_of(request).classify(served, sent.images, views, client_of(request))
    )
    answer_s = time.perf_counter() - started - read_s
    if len(votes) == 1 and isinstance(votes[0], ImageError):
        raise votes[0]
    if min_probability is None:
        min_probability = served.predictor.min_probability(int(views))
    results = [
        _result(
            index, vote, served.predictor, sent.top_k or top_k, min_probability, detail == "views"
        )
        for index, vote in enumerate(votes)
    ]
    headers = _named(served) | {
        "X-Views": str(int(views)),
        "Server-Timing": f"read;dur={1000 * read_s:.1f}, answer;dur={1000 * answer_s:.1f}",
    }
    if sent.kind == "multipart":
        answer = Classification(
            results=results, views=views, min_probability=min_probability, model=served.name
        )
        return _json(answer, headers)
    if min_probability is not None:
        headers["X-Min-Probability"] = f"{min_probability:g}"
        headers["X-None-Of-These"] = "true" if results[0].none_of_these else "false"
    scores = [
        {"label": guess.label, "score": guess.probability} for guess in results[0].guesses or ()
    ]
    return Response(json.dumps(scores), headers=headers, media_type="application/json")


@router.post(
    "/similar",
    summary="Find the most similar training images",
    responses=UPLOAD | refusals("no-index") | {200: {"model": Similar}},
    openapi_extra=IMAGE,
)
async def similar(
    request: Request,
    k: Annotated[int, Query(ge=1, le=50, description="How many images to return.")] = 6,
) -> Response:
    """Returns the training images most similar to an image: those nearest to it in the network's
    last hidden layer (§6.1, Figure 4)."""
    service = service_of(request)
    served = service.models.ready()
    neighbours = _neighbours(served)
    data = await _one(request)
    found = await unless_disconnected(
        request, service.similar(served, neighbours, data, k, client_of(request))
    )
    nearest = []
    for distance, number in found:
        of, path = served.predictor.about.classes[neighbours.label(number)], f"/thumbnails/{number}"
        nearest.append(Neighbour(id=of.id, label=of.name, distance=distance, thumbnail=path))
    index = IndexName(pictures=neighbours.about.pictures, dataset=neighbours.about.dataset)
    answer = Similar(neighbours=nearest, index=index, model=served.name)
    return _json(answer, _named(served))


@router.get(
    "/thumbnails/{picture}",
    summary="Get a training image",
    responses=refusals("not-found", "bad-parameter") | file("image/jpeg"),
)
async def thumbnail(request: Request, picture: Annotated[int, InPath(ge=0)]) -> Response:
    """Returns a training image as a small JPEG."""
    neighbours = _neighbours(service_of(request).models.ready())
    if picture >= neighbours.about.pictures:
        raise RefusedError(
            "not-found",
            f"there is no training image {picture}; the index numbers its "
            f"{neighbours.about.pictures:,} images from 0",
        )
    return Response(neighbours.thumbnail(picture), media_type="image/jpeg")


@router.post(
    "/explain",
    summary="Show which parts of an image speak for a label",
    responses=UPLOAD | file("image/png"),
    openapi_extra=IMAGE,
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
    service = service_of(request)
    served = service.models.ready()
    classes = served.predictor.about.classes
    data = await _one(request)
    wanted = next((number for number, known in enumerate(classes) if known.id == label), None)
    if label is not None and wanted is None:
        raise RefusedError(
            "bad-parameter",
            f"label: the model has no class {label[:80]!r}; GET /info lists its classes",
        )
    png, found, probability = await unless_disconnected(
        request, service.explain(served, data, wanted, client_of(request))
    )
    headers = _named(served) | {
        "X-Label-Id": _ascii(classes[found].id),
        "X-Label": _ascii(classes[found].name),
        "X-Probability": f"{probability:.4f}",
    }
    return Response(png, headers=headers, media_type="image/png")


@router.get(
    "/kernels.png", summary="Draw the kernels of the first layer", responses=file("image/png")
)
async def kernels(request: Request) -> Response:
    """Returns the kernels of the first layer, conv1, as a PNG (§6.1, Figure 3)."""
    kernel_C3HW = service_of(request).models.ready().predictor.network.conv1.weight
    return Response(kernel_sheet(kernel_C3HW.float().cpu()), media_type="image/png")


@router.get("/info", summary="Describe the model and the server's limits")
async def info(request: Request) -> Card:
    """Returns the model card and the server's limits."""
    return card(service_of(request))


def _result(
    index: int,
    vote_VK: Tensor | ImageError,
    predictor: Predictor,
    top_k: int,
    min_probability: float | None,
    votes: bool,
) -> Result:
    if isinstance(vote_VK, ImageError):
        return Result(index=index, problem=of_image(vote_VK).problem)
    size, crop, classes = predictor.about.size, predictor.crop, predictor.about.classes
    best = guesses(vote_VK.mean(0), classes, top_k)
    none = none_of_these(best[0].probability, min_probability)
    result = Result(index=index, guesses=best, none_of_these=none)
    if votes:
        places = (one_place if len(vote_VK) == Views.ONE else five_places)(size, crop)
        twins = [(mirrored, y, x) for mirrored in (False, True) for y, x in places]
        result.votes = [
            Vote(
                left=x / size,
                top=y / size,
                side=crop / size,
                mirrored=mirrored,
                guesses=guesses(probability_K, classes, top_k),
            )
            for probability_K, (mirrored, y, x) in zip(vote_VK, twins, strict=False)
        ]
    return result


async def _read(request: Request) -> Upload:
    service = service_of(request)
    # Before a body is read that there is no room for.
    service.batcher.check_room(client_of(request))
    return await read(request, service.settings.max_files)


async def _one(request: Request) -> bytes:
    images = (await _read(request)).images
    if len(images) > 1:
        raise RefusedError(
            "one-picture",
            f"the request has {len(images)} images, but this route takes one; "
            "send a request for each image",
        )
    return images[0]


def _neighbours(served: Served) -> Neighbours:
    if served.neighbours is None:
        raise RefusedError(
            "no-index",
            f"the model {served.predictor.about.name} has no index of its training images; "
            f"make one: `{COMMAND}`, or with Compose `submit index`",
        )
    return served.neighbours


def _named(served: Served) -> dict[str, str]:
    name = served.name
    return {
        "X-Model": _ascii(name.name),
        "X-Model-Step": str(name.step),
        "X-Model-Sha256": name.sha256,
    }


def _ascii(text: str) -> str:
    """The text as ASCII: a header holds nothing else."""
    return text.encode("ascii", "backslashreplace").decode()


def _json(answer: BaseModel, headers: dict[str, str]) -> Response:
    body = answer.model_dump_json(exclude_none=True)
    return Response(body, headers=headers, media_type="application/json")
