"""The routes for those who run the server. They need no key and never queue."""

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST

from serving import metrics
from serving.errors import RefusedError, draining
from serving.openapi import refusals
from serving.schemas import Alive, Ready
from serving.state import service_of

router = APIRouter(tags=["Operations"])


@router.get("/livez", summary="Check that the server is alive", responses=refusals("dead"))
async def livez(request: Request) -> Alive:
    """Succeeds while the process answers and all its background tasks run."""
    if not service_of(request).alive():
        raise RefusedError("dead", "a background task of the server has failed; restart it")
    return Alive()


@router.get("/readyz", summary="Check that the server can answer", responses=refusals("not-ready"))
async def readyz(request: Request) -> Ready:
    """Succeeds while a model is loaded and verified, and the server is not shutting down."""
    service = service_of(request)
    if service.draining:
        raise draining()
    return Ready(model=service.models.ready().name)


@router.get(
    "/startupz", summary="Check that the server has started", responses=refusals("not-ready")
)
async def startupz(request: Request) -> Alive:
    """Succeeds once a model has been loaded."""
    service_of(request).models.ready()
    return Alive()


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def prometheus() -> Response:
    """Returns metrics for Prometheus, summed over all processes that share the port."""
    return Response(metrics.page(), headers={"content-type": CONTENT_TYPE_LATEST})
