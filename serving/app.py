"""The routes. Each is glue: typed input, one call, typed output."""

from functools import partial

import anyio.to_thread
import torch
from fastapi import FastAPI, UploadFile

from alexnet.pixels import whole_picture
from serving import errors
from serving.limits import BodyLimit
from serving.predictor import Predictor
from serving.schemas import Alive, Classification, ModelName, Problem, Ready
from serving.settings import Settings

VIEWS = 10


def create_app(settings: Settings, predictor: Predictor) -> FastAPI:
    app = FastAPI(
        title="AlexNet",
        summary="Five labels for a photograph, from the paper's ten views.",
    )
    app.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes)
    errors.install(app)
    size, rule = predictor.about.size, predictor.about.rule
    # A forward pass uses all cores itself: the next waits for it, decoding goes on beside.
    one_at_a_time = anyio.CapacityLimiter(1)

    refusals = {
        status: {"model": Problem, "content": {"application/problem+json": {}}}
        for status in (400, 413, 415, 422)
    }

    @app.post("/classify", responses=refusals)  # type: ignore[arg-type]
    async def classify(file: UploadFile) -> Classification:
        """The five most probable labels of one picture, sent as multipart form field `file`."""
        picture_HW3 = await anyio.to_thread.run_sync(
            whole_picture, await file.read(), size, settings.formats, rule
        )
        picture_13HW = torch.from_numpy(picture_HW3).permute(2, 0, 1)[None]
        probability_1K = await anyio.to_thread.run_sync(
            partial(predictor, picture_13HW, views=VIEWS), limiter=one_at_a_time
        )
        return Classification.of(probability_1K[0], VIEWS, predictor.about)

    @app.get("/healthz")
    async def healthz() -> Alive:
        """The process answers."""
        return Alive()

    @app.get("/readyz")
    async def readyz() -> Ready:
        """The model is loaded and has answered once."""
        return Ready(model=ModelName.of(predictor.about))

    return app
