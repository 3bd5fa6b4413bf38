"""How routes and middleware reach the service."""

from starlette.requests import HTTPConnection

from serving.service import Service


def service_of(connection: HTTPConnection) -> Service:
    """The service of the application that answers this request."""
    return connection.app.state.service
