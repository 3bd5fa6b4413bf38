"""A request's body to the images in it."""

import base64
import binascii
from typing import Literal, NamedTuple

from fastapi import Request
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
    parse_options_header,
)
from pydantic import ValidationError

from alexnet.fault import fault
from serving.errors import RefusedError
from serving.schemas import Base64Image

FIELD = "file"
EXAMPLE = f"curl -F {FIELD}=@photo.jpg"
FIELDS = 8
"""Parts that are no file, and are passed over."""


class Upload(NamedTuple):
    kind: Literal["multipart", "raw", "json"]
    """How it came, which is how it is answered."""
    images: list[bytes]
    top_k: int | None = None
    """What a JSON body asks for."""


async def read(request: Request, max_files: int) -> Upload:
    """The images of a multipart form, of a raw body, or of Hugging Face's JSON.

    Raises RefusedError: 400 for what cannot be parsed, 413 for too many files, 415 for other types,
    422 for a form or JSON without an image.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    body = await request.body()
    if kind == "multipart/form-data":
        return Upload("multipart", _files(body, options.get("boundary", ""), max_files))
    if kind.startswith("image/") or kind == "application/octet-stream":
        return Upload("raw", [body])
    if kind == "application/json":
        return _from_json(body)
    found = f"of type {kind[:80]}" if kind else "without a Content-Type"
    raise RefusedError(
        "content-type",
        f"no image can be read from a request body {found}; send multipart/form-data, as "
        f"`{EXAMPLE}` does, or image/* with the file itself, or application/json",
    )


def _files(body: bytes, boundary: str, max_files: int) -> list[bytes]:
    files: list[bytes] = []
    others: set[str] = set()
    part: list[bytes] = []
    try:
        with PushMultipartParser(boundary, max_segment_count=max_files + FIELDS) as parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    segment, part = event, []
                elif event is not None:
                    part.append(event)
                elif not segment.name:
                    raise RefusedError(
                        "multipart",
                        f"a part of the form has no field name; send files as `{EXAMPLE}` does",
                    )
                elif segment.name != FIELD:
                    others.add(segment.name)
                elif segment.filename is None:
                    raise RefusedError(
                        "no-file",
                        f"the field {FIELD!r} holds text instead of a file; "
                        f"send the file as `{EXAMPLE}` does",
                    )
                else:
                    files.append(b"".join(part))
    except ParserLimitReached as error:
        raise RefusedError(
            "too-many-files",
            f"the form has too many parts, or parts that are too large ({error}); "
            f"send at most {max_files} files in one request",
            limit=max_files,
        ) from None
    except MultipartError as error:
        raise RefusedError("multipart", f"the multipart form is damaged ({error})") from None
    if len(files) > max_files:
        raise RefusedError(
            "too-many-files",
            f"the request has {len(files)} files; the limit is {max_files}",
            limit=max_files,
            seen=len(files),
        )
    if not files:
        found = ", ".join(sorted(others))[:80] or "none"
        raise RefusedError(
            "no-file",
            f"the form has no file in a field named {FIELD!r} (its fields: {found}); "
            f"send one as `{EXAMPLE}` does",
        )
    return files


def _from_json(body: bytes) -> Upload:
    try:
        sent = Base64Image.model_validate_json(body)
        image = base64.b64decode(sent.inputs, validate=True)
    except ValidationError as error:
        first = fault(error)
        place = first.field or "body"
        raise RefusedError("bad-parameter", f"{place}: {first.reason}") from None
    except (binascii.Error, ValueError):
        raise RefusedError("bad-parameter", "inputs: the text is not valid base64") from None
    return Upload("json", [image], sent.parameters.top_k)
