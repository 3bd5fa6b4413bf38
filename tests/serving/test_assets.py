"""The files of the pages; those of the application are asked for in test_app.py."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from serving.assets import PIECE_BYTES, Assets

SIZES = (0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES)


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    folder = tmp_path / "page"
    folder.mkdir()
    for size in SIZES:
        (folder / f"{size}.bin").write_bytes(bytes(number % 251 for number in range(size)))
    (folder / "page.html").write_text("<p>é</p>", encoding="utf-8")
    (folder / "draw.js").write_text("draw()")
    (folder / "__init__.py").touch()
    (folder / "__pycache__").mkdir()  # as where a package was compiled
    (folder / "__pycache__" / "__init__.cpython-311.pyc").touch()
    (tmp_path / "secret").write_text("secret")
    return TestClient(Starlette(routes=[Mount("/page", Assets(folder))]))


@pytest.mark.parametrize("size", SIZES)
def test_a_file_arrives_whole(client: TestClient, size: int) -> None:
    answer = client.get(f"/page/{size}.bin")
    assert answer.content == bytes(number % 251 for number in range(size))
    head = client.head(f"/page/{size}.bin")
    assert (head.content, head.headers) == (b"", answer.headers)
    assert answer.headers["content-length"] == str(size)


def test_it_has_its_type(client: TestClient) -> None:
    assert client.get("/page/page.html").headers["content-type"] == "text/html; charset=utf-8"
    assert client.get("/page/page.html").text == "<p>é</p>"
    assert "javascript" in client.get("/page/draw.js").headers["content-type"]


def test_what_the_client_has_is_not_sent_again(client: TestClient) -> None:
    etag = client.get("/page/draw.js").headers["etag"]
    for seen in (etag, f"W/{etag}", f'"another", {etag}', "*"):
        answer = client.get("/page/draw.js", headers={"if-none-match": seen})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    lines = [("if-none-match", '"another"'), ("if-none-match", etag)]
    assert client.get("/page/draw.js", headers=lines).status_code == 304
    for seen in ('"another"', "", client.get("/page/page.html").headers["etag"]):
        assert client.get("/page/draw.js", headers={"if-none-match": seen}).content == b"draw()"


ELSEWHERE = (
    "",
    "/",
    "/no",
    "/__init__.py",
    "/__pycache__",
    "/../secret",
    "/%2e%2e/secret",
    "//etc/hosts",
    "/a%00b",
)


@pytest.mark.parametrize("path", ELSEWHERE)
def test_all_else_is_not_there(client: TestClient, path: str) -> None:
    assert client.get(f"/page{path}").status_code == 404
