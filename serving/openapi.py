"""What the documentation says of bodies and refusals that the routes' types do not say."""

from http import HTTPStatus
from typing import Any

from alexnet.formats import FORMATS
from serving.errors import STATUS
from serving.schemas import Base64Parameters, Problem
from serving.settings import Settings

Responses = dict[int | str, dict[str, Any]]


def refusals(*codes: str) -> Responses:
    """The responses of a route that may refuse with these codes."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": content}
        for status in sorted({STATUS[code] for code in codes})
    }


def file(media_type: str) -> Responses:
    """The response of a route that answers with a file."""
    return {200: {"content": {media_type: {"schema": _FILE}}}}


_FILE = {"type": "string", "format": "binary"}
_FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "array", "items": _FILE, "minItems": 1}},
}
_IMAGE = {"multipart/form-data": {"schema": _FORM}} | {
    FORMATS[name].media_type: {"schema": _FILE} for name in Settings.model_fields["formats"].default
}
_BASE64 = {
    "type": "object",
    "required": ["inputs"],
    "additionalProperties": False,
    "properties": {
        "inputs": {"type": "string", "contentEncoding": "base64"},
        "parameters": Base64Parameters.model_json_schema(),
        "options": {"description": "Passed over."},
    },
}

IMAGE = {"requestBody": {"required": True, "content": _IMAGE}}
IMAGES = {
    "requestBody": {"required": True, "content": _IMAGE | {"application/json": {"schema": _BASE64}}}
}
UPLOAD = refusals(
    "damaged",
    "decoder-died",
    "slow",
    "too-large",
    "not-an-image",
    "unsupported",
    "bad-parameter",
    "queue-full",
    "deadline",
)
"""The refusals of every route that takes images."""
