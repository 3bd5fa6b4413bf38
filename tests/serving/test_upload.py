"""Bodies of requests, well-formed and not."""

import asyncio
import base64
import io
import json
from contextlib import suppress
from urllib.parse import quote

import pytest
from fastapi import Request
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.datastructures import FormData
from starlette.formparsers import MultiPartParser

from serving.errors import RefusedError
from serving.upload import Upload, read


def request(body: bytes, kind: str, pieces: int = 1) -> Request:
    step = max(1, -(-len(body) // pieces))
    parts = [body[start : start + step] for start in range(0, len(body), step)] or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]

    async def receive() -> dict:
        return messages.pop(0)

    headers = [(b"content-type", kind.encode("latin-1"))]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


def upload(body: bytes, kind: str, max_files: int = 32, pieces: int = 1) -> Upload:
    return asyncio.run(read(request(body, kind, pieces), max_files))


def form(*parts: tuple[str, str | None, bytes]) -> bytes:
    """Parts of (field, file name, content)."""
    body = io.BytesIO()
    for field, name, content in parts:
        named = "" if name is None else f'; filename="{name}"'
        head = f'--BOUND\r\nContent-Disposition: form-data; name="{field}"{named}\r\n\r\n'
        body.write(head.encode() + content + b"\r\n")
    body.write(b"--BOUND--\r\n")
    return body.getvalue()


MULTIPART = "multipart/form-data; boundary=BOUND"
CONTENTS = st.binary(max_size=300) | st.sampled_from([b"--BOUND--", b"\r\n--BOUN", b"\r\n", b"-"])


@given(st.lists(CONTENTS, min_size=1, max_size=8), st.integers(1, 9))
def test_files_come_out_as_they_went_in(contents: list[bytes], pieces: int) -> None:
    contents = [content for content in contents if b"\r\n--BOUND" not in b"\r\n" + content]
    if contents:
        body = form(*(("file", "a.jpg", content) for content in contents))
        assert upload(body, MULTIPART, pieces=pieces) == Upload("multipart", contents)


@given(st.binary(max_size=400))
def test_any_bytes_are_files_or_a_refusal(body: bytes) -> None:
    for kind in (MULTIPART, "application/json"):
        with suppress(RefusedError):
            assert upload(body, kind).images


@given(st.lists(st.tuples(st.integers(0, 250), st.binary(max_size=3)), max_size=4))
@example([(69, b"\0")])  # the end of a file's name
@example([(40, b"\t")])  # before the field's
@example([(46, b" ")])
def test_of_damaged_forms_no_file_is_lost_that_starlette_finds(
    changes: list[tuple[int, bytes]],
) -> None:
    body = form(("file", "a.jpg", b"first"), ("other", None, b"x"), ("file", "b.jpg", b"second"))
    for place, replacement in changes:
        body = body[:place] + replacement + body[place + len(replacement) :]
    try:
        ours = upload(body, MULTIPART).images
    except RefusedError:
        return
    theirs = asyncio.run(_starlette(body))
    left = iter(ours)
    assert all(content in left for content in theirs or [])  # in the same order


async def _starlette(body: bytes) -> list[bytes] | None:
    asked = request(body, MULTIPART)
    try:
        parsed: FormData = await MultiPartParser(asked.headers, asked.stream()).parse()
    except Exception:
        return None
    files = [part for part in parsed.getlist("file") if not isinstance(part, str)]
    contents = [await part.read() for part in files]
    await parsed.close()
    return contents


@pytest.mark.parametrize(
    ("body", "kind", "status", "text"),
    [
        *(
            (form(("file", "a", b"1")), kind, 400, "multipart/form-data has no boundary, which")
            for kind in (
                "multipart/form-data",
                "multipart/form-data;",
                "multipart/form-data; boundary=",
                'multipart/form-data; boundary=""',
                "Multipart/Form-Data; charset=utf-8",
            )
        ),
        (form(("file", "a", b"1"))[:-20], MULTIPART, 400, "multipart form is damaged"),
        (
            form(("image", "a", b"1")),
            MULTIPART,
            422,
            "no file in a field named 'file' (its fields: im",
        ),
        (form(("file", None, b"1")), MULTIPART, 422, "holds text instead of a file"),
        (form(("file", "a", b"1"), ("", "a", b"1")), MULTIPART, 400, "has no field name"),
        (form(*[("file", "a", b"1")] * 4), MULTIPART, 413, "4 files; the limit is 3"),
        (
            form(*[("x", None, b"1")] * 99),
            MULTIPART,
            413,
            "too many parts, or parts that are too large",
        ),
        (b"x", "text/plain", 415, "from a request body of type text/plain"),
        (b"x", "", 415, "from a request body without a Content-Type"),
        (b"{}", "application/json", 422, "inputs: Field required"),
        *(
            (json.dumps({"inputs": text}).encode(), "application/json", 422, "not valid base64")
            for text in ("?", "A", "AAAA?", "é", "https://example.org/a.jpg", "data:image/png,AAAA")
        ),
        (b'{"inputs": "", "model": "a"}', "application/json", 422, "model"),
        (b'{"inputs": ""', "application/json", 422, "body: Invalid JSON"),
        (b'{"a": 1' + b', "a": 1' * 400 + b"}", "application/json", 422, "more than 1,000 strings"),
        (b'{"options": [' + b"1," * 1000 + b"1]}", "application/json", 422, "more than 1,000"),
        (b'{"inputs": 1}', "application/json", 422, "inputs: expected text"),
        (b'{"inputs": "", "parameters": {"top_k": 0}}', "application/json", 422, "top_k"),
        (b'{"inputs": "", "parameters": {"topk": 1}}', "application/json", 422, "topk"),
        *(
            (body % (b"k" * 10_000), "application/json", 422, "k" * 40)
            for body in (b'{"inputs": "", "%s": 1}', b'{"inputs": "", "parameters": {"%s": 1}}')
        ),
    ],
)
def test_refusals(body: bytes, kind: str, status: int, text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        upload(body, kind, max_files=3)
    assert refused.value.problem.status == status
    assert text in refused.value.problem.detail
    assert len(refused.value.problem.detail) < 500  # whatever the body has in it


@pytest.mark.parametrize(
    ("header", "boundary"),
    [
        ("boundary=B", "B"),
        ("BOUNDARY=B; charset=utf-8", "B"),
        ("charset=utf-8;\tboundary = B", "B"),
        ('boundary="B"', "B"),
        ('boundary="a b:c;d"', "a b:c;d"),
        ("boundary=----=_Part_1_23.4", "----=_Part_1_23.4"),
        ("boundary=a/b(c)?", "a/b(c)?"),
        ("boundary=é", "é"),
    ],
)
def test_a_boundary_is_found_however_it_is_written(header: str, boundary: str) -> None:
    body = form(("file", "a.jpg", b"JPEG")).replace(b"BOUND", boundary.encode("latin-1"))
    sent = upload(body, f"multipart/form-data; {header}")
    assert sent == Upload("multipart", [b"JPEG"])


ENCODINGS = "utf-8", "latin-1", "cp1251", "gbk", "shift_jis", "utf-16-le"


@pytest.mark.parametrize(
    "disposition",
    [
        b"filename*=UTF-8''%e5%86%99%e7%9c%9f.jpg",
        b"filename*=utf-8'en'a%20b.jpg",
        b"filename*=ISO-8859-1''%e9.jpg",
        b"FileName*=UTF-8''a.jpg",
        b"filename=a.jpg; filename*=UTF-8''a.jpg",
        b"filename=my photo.jpg",
        b'filename=""',
        b'filename="a\\"b.jpg"',
        *(
            b'filename="%s.jpg"' % name.encode(encoding)
            for name, encoding in zip(
                ("写真", "é", "фото", "照片", "表", "ab"), ENCODINGS, strict=True
            )
        ),
        b'filename="%s"' % "表".encode("shift_jis"),  # its last byte is a backslash
    ],
)
def test_a_part_with_a_name_of_any_form_is_a_file(disposition: bytes) -> None:
    body = form(("file", "NAME", b"JPEG")).replace(b'filename="NAME"', disposition)
    assert upload(body, MULTIPART) == Upload("multipart", [b"JPEG"])


def test_a_part_whose_type_is_an_image_is_a_file_without_a_name() -> None:
    body = form(("file", None, b"JPEG"))
    body = body.replace(b'"file"', b'"file"\r\nContent-Type: image/jpeg')
    assert upload(body, MULTIPART) == Upload("multipart", [b"JPEG"])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_fields_in_other_encodings_are_told_without_the_parsers_words(encoding: str) -> None:
    body = form(("NAME", "a.jpg", b"JPEG")).replace(b"NAME", "é".encode(encoding, "ignore") + b"e")
    with pytest.raises(RefusedError) as refused:
        upload(body, MULTIPART)
    assert refused.value.problem.code == "no-file"
    assert "\\x" not in refused.value.problem.detail
    assert "Unicode" not in refused.value.problem.detail


@given(st.binary(max_size=60))
def test_no_name_makes_a_file_text(name: bytes) -> None:
    if not {*name} & {*b'\r\n"'}:
        body = form(("file", "NAME", b"JPEG")).replace(b"NAME", name)
        assert upload(body, MULTIPART) == Upload("multipart", [b"JPEG"])


def wrapped(data: bytes) -> str:
    """Base64 as mail has it, in lines."""
    return base64.encodebytes(data).decode()


@given(st.binary(max_size=300))
def test_base64_comes_in_all_its_forms(data: bytes) -> None:
    plain = base64.b64encode(data).decode()
    for text in (
        plain,
        wrapped(data),
        wrapped(data).replace("\n", "\r\n"),
        f" {plain}\n",
        plain.rstrip("="),
        base64.urlsafe_b64encode(data).decode(),
        f"data:image/jpeg;base64,{plain}",
        f"data:;base64,{plain}",
        f"data:;base64,{quote(plain, safe='')}",
        f"DATA:image/png;charset=utf-8;BASE64,{quote(plain, safe='')}",
        f"data:image/webp;base64,\n{wrapped(data)}",
    ):
        assert upload(json.dumps({"inputs": text}).encode(), "application/json").images == [data]


@pytest.mark.parametrize("options", [{}, None, {"wait_for_model": True, "use_cache": False}])
def test_options_for_hugging_faces_own_servers_are_passed_over(options: object) -> None:
    sent = {"inputs": "", "options": options, "parameters": {"top_k": 2}}
    assert upload(json.dumps(sent).encode(), "application/json") == Upload("json", [b""], 2)


def test_bare_images_and_base64() -> None:
    assert upload(b"JPEG", "image/jpeg") == Upload("raw", [b"JPEG"])
    assert upload(b"any", "application/octet-stream") == Upload("raw", [b"any"])
    sent = b'{"inputs": "%s", "parameters": {"top_k": 3}}' % base64.b64encode(b"JPEG")
    assert upload(sent, "application/json; charset=utf-8") == Upload("json", [b"JPEG"], 3)
