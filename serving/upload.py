"""A request's body to the images in it."""

import asyncio
import base64
import binascii
import re
from contextlib import nullcontext
from typing import Literal, NamedTuple

from fastapi import Request
from multipart import (
    MultipartError,
    MultipartSegment,
    ParserLimitReached,
    PushMultipartParser,
)
from pydantic import ValidationError

from alexnet.fault import LONGEST, fault
from serving.errors import RefusedError
from serving.schemas import Base64Image

FIELD = "file"
EXAMPLE = f"curl -F {FIELD}=@photo.jpg"
FIELDS = 8
"""Parts that are no file, and are passed over."""
BOUNDARY = re.compile(
    r""";\s*boundary\s*=\s*("(?P<quoted>[^"]*)"|(?P<bare>[^\s;"]*))""", re.IGNORECASE
)
"""Without quotes also where the standard asks for them, as in `----=_Part_1` (RFC 2046 §5.1.1)."""
FILE_NAME = re.compile(r";\s*filename\*?\s*=", re.IGNORECASE)
"""What makes a part a file, whatever the name's form (RFC 7578, RFC 5987) or encoding: it is not
used."""
PIECE_BYTES = 1 << 20
"""Of a form, between which other requests have their turn. Larger bodies are parsed one at a time:
what that takes beside them, it takes once."""
_turn = asyncio.Lock()
JSON_TOKENS = 1000
"""Strings and separators of a body in JSON, which bound its fields and values: a parser takes
memory and time for each."""
DATA_URL = re.compile(rb"\s*data:[^,]*;\s*base64\s*,", re.IGNORECASE)
DATA_URL_BYTES = 1000
"""Of the beginning of a data: URL, up to its comma."""
URL_SAFE = bytes.maketrans(b"-_", b"+/")
"""The alphabet of base64 for URLs, to the usual one (RFC 4648)."""
ESCAPED = {
    b"%%%02X" % ord(char): char.encode() for char in "+/=-_ \r\n"
}  # fmt: skip
"""Percent-encoding of what base64 in a URL may need encoded (RFC 3986 §2.1)."""


class Upload(NamedTuple):
    kind: Literal["multipart", "raw", "json"]
    """How it came, which is how it is answered."""
    images: list[bytes]
    top_k: int | None = None
    """What a JSON body asks for."""


async def read(request: Request, max_files: int) -> Upload:
    """The images of a multipart form, of a raw body, or of Hugging Face's JSON.

    Raises RefusedError: 400 for what cannot be parsed, 413 for too many files, 415 for other types
    and for compressed bodies, 422 for a form or JSON without an image.
    """
    _check_encoding(request)
    sent_as = request.headers.get("content-type", "")
    kind = sent_as.partition(";")[0].strip().lower()
    # Not request.body(), which keeps it beside the images for as long as they wait.
    pieces = [piece async for piece in request.stream()]
    async with _turn if sum(map(len, pieces)) > PIECE_BYTES else nullcontext():
        body = b"".join(pieces)
        pieces.clear()
        return await _parsed(body, sent_as, kind, max_files)


async def _parsed(body: bytes, sent_as: str, kind: str, max_files: int) -> Upload:
    if kind == "multipart/form-data":
        named = BOUNDARY.search(sent_as)
        boundary = (named["quoted"] or named["bare"] or "") if named else ""
        if not boundary:
            raise RefusedError(
                "multipart",
                "the header Content-Type: multipart/form-data has no boundary, which separates the "
                "parts of the form; let the HTTP client write this header itself, as "
                f"`{EXAMPLE}` does",
            )
        files = await _files(body, boundary.encode("latin-1"), max_files)
        return Upload("multipart", files)
    if kind.startswith("image/") or kind == "application/octet-stream":
        return Upload("raw", [body])
    if kind == "application/json":
        return await _from_json(body)
    found = f"of type {kind[:80]}" if kind else "without a Content-Type"
    raise RefusedError(
        "content-type",
        f"no image can be read from a request body {found}; send multipart/form-data, as "
        f"`{EXAMPLE}` does, or image/* with the file itself, or application/json",
    )


def _check_encoding(request: Request) -> None:
    encoding = ", ".join(request.headers.getlist("content-encoding"))
    codings = {coding.strip().lower() for coding in encoding.split(",")}
    if not codings <= {"", "identity"}:
        raise RefusedError(
            "content-encoding",
            f"the request body is compressed (Content-Encoding: {encoding[:80]}), which this "
            "server does not undo; send it uncompressed, without this header",
            headers={"Accept-Encoding": "identity"},
        )


async def _files(body: bytes, boundary: bytes, max_files: int) -> list[bytes]:
    files: list[bytes] = []
    others: set[str] = set()
    part: list[bytes] = []
    try:
        # Every byte is a character of Latin-1: names in any encoding are parsed.
        with PushMultipartParser(
            boundary, max_segment_count=max_files + FIELDS, header_charset="latin-1"
        ) as parser:
            for start in range(0, len(body), PIECE_BYTES):
                for event in parser.parse(body[start : start + PIECE_BYTES]):
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
                        others.add(segment.name.encode("latin-1").decode(errors="replace"))
                    elif not _is_file(segment):
                        raise RefusedError(
                            "no-file",
                            f"the field {FIELD!r} holds text instead of a file; "
                            f"send the file as `{EXAMPLE}` does",
                        )
                    else:
                        files.append(b"".join(part))
                await asyncio.sleep(0)
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


def _is_file(segment: MultipartSegment) -> bool:
    named = FILE_NAME.search(segment.header("Content-Disposition", ""))
    return bool(named) or (segment.content_type or "").startswith("image/")


async def _from_json(body: bytes) -> Upload:
    if sum(map(body.count, (b'"', b","))) > JSON_TOKENS:
        raise RefusedError(
            "bad-parameter",
            f"body: the JSON has more than {JSON_TOKENS:,} strings and commas; send the fields "
            "`inputs` and `parameters` alone, and one image in a request",
            limit=JSON_TOKENS,
        )
    try:
        sent = Base64Image.model_validate_json(body)
        await asyncio.sleep(0)
        image = await _from_base64(sent.inputs)
    except ValidationError as error:
        first = fault(error)
        place = first.field[:LONGEST] or "body"  # the sender chose its name, up to all of the body
        raise RefusedError("bad-parameter", f"{place}: {first.reason}") from None
    except (binascii.Error, ValueError):
        raise RefusedError(
            "bad-parameter",
            "inputs: the text is not valid base64; send the image file itself in base64, also "
            "after `data:image/jpeg;base64,`; the server fetches no addresses",
        ) from None
    return Upload("json", [image], sent.parameters.top_k)


async def _from_base64(text: bytes) -> bytes:
    """The bytes that base64 stands for: of either alphabet, with line breaks or without, with or
    without the padding at its end, also in a data: URL (RFC 2397). Raises ValueError."""
    if url := DATA_URL.match(text[:DATA_URL_BYTES]):
        text = text[url.end() :]
        for escaped, byte in ESCAPED.items():
            text = text.replace(escaped, byte).replace(escaped.lower(), byte)
            await asyncio.sleep(0)
    text = text.translate(URL_SAFE, delete=b" \t\r\n\v\f")
    await asyncio.sleep(0)
    return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
