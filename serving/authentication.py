"""Who asks; requests without a known API key are refused."""

from fastapi.security import HTTPBearer
from starlette.requests import HTTPConnection

from serving.connections import address_of
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
        given = _given_key(request)
        if given is None:
            raise RefusedError("no-key", "this server needs an API key; "
                               "send the header `Authorization: Bearer KEY`")  # fmt: skip
        if given not in keys:
            raise RefusedError("unknown-key", "the server does not know this API key")


def client_of(connection: HTTPConnection) -> str:
    """Among whom what there is, is shared: holders of known API keys, and addresses."""
    keys, given = service_of(connection).keys, _given_key(connection)
    if keys and given and given in keys:
        return f"key {given}"
    return address_of(connection.client.host if connection.client else "")


def _given_key(connection: HTTPConnection) -> str | None:
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    return key if scheme.lower() == "bearer" and key else connection.headers.get("x-api-key")
