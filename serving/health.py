"""The routes for those who run the server. They need no key and never queue."""

from fastapi import APIRouter, Request, Response

from serving import metrics
from serving.answers import problems
from serving.errors import RefusedError, draining
from serving.schemas import Alive, Ready

router = APIRouter()


@router.get("/livez", responses=problems(503))
async def livez(request: Request) -> Alive:
    """The process answers, and nothing in it has died."""
    if not request.app.state.service.alive():
        raise RefusedError(503, "dead", "a part of the server has died; start it again")
    return Alive()


@router.get("/readyz", responses=problems(503))
async def readyz(request: Request) -> Ready:
    """A model is loaded, verified and has answered once, and the server is not shutting down."""
    service = request.app.state.service
    if service.draining:
        raise draining()
    return Ready(model=service.served().name)


@router.get("/startupz", responses=problems(503))
async def startupz(request: Request) -> Alive:
    """A model has been loaded."""
    models = request.app.state.service.models
    if models.served is None:
        reason = models.failed or "the model is being loaded"
        raise RefusedError(503, "not-ready", f"not ready: {reason}", retry_after_s=2)
    return Alive()


@router.get("/metrics", response_class=Response)
async def prometheus() -> Response:
    """For Prometheus; of all processes that share the port."""
    return metrics.page()
