"""Requests without a known API key are refused."""

from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from serving.errors import RefusedError
from serving.state import service_of


class KeyRequired(HTTPBearer):
    """Refuses requests without a known key, where the server has keys."""

    def __init__(self) -> None:
        super().__init__(
            auto_error=False,
            description="Needed only where the server was started with keys. The header X-API-Key "
            "is accepted as well.",
        )

    async def __call__(self, request: HTTPConnection) -> None:
        keys = service_of(request).keys
        if keys is None:
            return
        bearer = await super().__call__(request)
        given = bearer.credentials if bearer else request.headers.get("x-api-key")
        if given is None:
            raise RefusedError("no-key", "this server needs an API key; "
                               "send the header `Authorization: Bearer KEY`")  # fmt: skip
        if given not in keys:
            raise RefusedError("unknown-key", "the server does not know this API key")
