"""The routes for those who run the server. They need no key and never queue."""

from fastapi import APIRouter, Request, Response

from serving import metrics
from serving.answers import problems
from serving.errors import RefusedError, draining
from serving.schemas import Alive, Ready

router = APIRouter(tags=["Operations"])


@router.get("/livez", summary="Check that the server is alive", responses=problems(503))
async def livez(request: Request) -> Alive:
    """Succeeds while the process answers and all its background tasks run."""
    if not request.app.state.service.alive():
        raise RefusedError(503, "dead", "a background task of the server has failed; restart it")
    return Alive()


@router.get("/readyz", summary="Check that the server can answer", responses=problems(503))
async def readyz(request: Request) -> Ready:
    """Succeeds while a model is loaded and verified, and the server is not shutting down."""
    service = request.app.state.service
    if service.draining:
        raise draining()
    return Ready(model=service.served().name)


@router.get("/startupz", summary="Check that the server has started", responses=problems(503))
async def startupz(request: Request) -> Alive:
    """Succeeds once a model has been loaded."""
    request.app.state.service.served()
    return Alive()


@router.get("/metrics", summary="Metrics for Prometheus", response_class=Response)
async def prometheus() -> Response:
    """Returns metrics for Prometheus, summed over all processes that share the port."""
    return metrics.page()
