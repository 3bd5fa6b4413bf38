"""The application: routes, the layers around them, and what runs beside."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from serving import answers, errors, health, metrics
from serving.assets import Asset, Assets
from serving.batcher import VIEWS
from serving.connections import Connections
from serving.logs import configure
from serving.memory import keep_freed
from serving.middleware import BodyLimit, RequestMiddleware
from serving.models import Models
from serving.problems import Problems
from serving.service import Service
from serving.settings import Settings

PAGE = Path(__file__).parent / "page"
EXPOSED = (
    "Retry-After", "Server-Timing", "X-Label", "X-Label-Id", "X-Min-Probability", "X-Model",
    "X-Model-Sha256", "X-Model-Step", "X-None-Of-These", "X-Probability", "X-Request-Id", "X-Views",
)  # fmt: skip
"""Headers of answers that pages of other origins may read."""
CLOSE_DELAY_S = 0.5
"""Time from SIGTERM until the port closes: what was sent before is on its way, and answered."""


def create_app(settings: Settings, models: Models | None = None) -> FastAPI:
    """The service, by default of the models that the settings name."""
    service = Service(settings, models or Models(settings.model))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Connections]]:
        _drain_on_signals(service)
        metrics.CAPACITY_VIEWS.set(VIEWS * service.queue_pictures)
        # Beside: the port answers, and signals are heard, while the model is being loaded.
        starting = asyncio.create_task(service.decoder.start())
        service.tasks = [
            asyncio.create_task(service.batcher.run()),
            asyncio.create_task(service.models.watch(settings.reload_s)),
        ]
        if settings.workers > 1:
            # Where others share the port, one without a model takes no connections from them.
            await service.models.looked.wait()
        yield {"connections": Connections(settings)}  # to the protocol
        for task in (starting, *service.tasks):
            task.cancel()
        await asyncio.gather(starting, *service.tasks, return_exceptions=True)

    app = FastAPI(
        title="AlexNet",
        summary="Classifies photographs, by default from ten views of each as in the 2012 paper.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # To the scheme and host that this server sees, which are not a proxy's.
        redirect_slashes=False,
    )
    app.state.service = service
    app.add_middleware(BodyLimit, max_bytes=settings.max_upload_bytes)
    app.add_middleware(RequestMiddleware)
    if settings.cors:
        # Around all others: a page may read every refusal.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=("Authorization", "X-API-Key", "X-Request-Id"),
            expose_headers=EXPOSED,
        )
    app.add_middleware(Problems)
    errors.install(app)
    app.include_router(answers.router)
    app.include_router(health.router)

    page = Assets(PAGE)

    @app.get("/", include_in_schema=False)
    async def index() -> Asset:
        return page.files["index.html"]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Asset:
        return page.files["docs.html"]

    app.mount("/page", page)
    # Swagger UI's own files; FastAPI's page would take them from a CDN.
    app.mount("/swagger", Assets(Path(str(files("fastapi_swagger") / "resources"))))
    return app


def _drain_on_signals(service: Service) -> None:
    """After SIGTERM connections end with their answers; then uvicorn's own handlers close the port.

    Where there is no model there is nothing to wait for.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        after = signal.getsignal(number)

        def drain(number: int, frame: FrameType | None, after: Any = after) -> None:
            service.draining = True
            service.models.looked.set()
            delay_s = CLOSE_DELAY_S if service.models.served else 0
            loop.call_soon_threadsafe(loop.call_later, delay_s, after, number, None)

        signal.signal(number, drain)


def from_environment() -> FastAPI:
    """The app of a server process, whose settings come from SERVING_*."""
    configure()
    keep_freed()
    settings = Settings()
    # Before the first forward pass, which NNPACK's threads are started for: they never change.
    torch.set_num_threads(settings.pass_threads)
    # With TF32 a GPU's probabilities were seen to differ from a CPU's by 0.003.
    torch.backends.cudnn.allow_tf32 = False
    if settings.workers > 1:
        # A terminal that closes signals all processes; the one that started this restarts it.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for descriptor in Path("/proc/self/fd").iterdir():
        # Decoders must not have the port, which uvicorn hands to its processes inheritable.
        with suppress(OSError):
            os.set_inheritable(int(descriptor.name), int(descriptor.name) <= 2)
    return create_app(settings)
