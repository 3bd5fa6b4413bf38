"""What people ask with: curl as printed, huggingface_hub, our own client."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import InferenceClient
from PIL import Image

from tests.conftest import ROOT
from tests.serving.conftest import Server, serve

PAGE = (ROOT / "docs/serving.md").read_text()


@pytest.fixture
def photo(tmp_path: Path, jpeg: bytes) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg)
    return path


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_as_the_page_prints_it(server: Server, photo: Path) -> None:
    photo.with_name("notes.txt").write_text("no image")
    Image.new("1", (9000, 9000)).save(photo.with_name("big.png"))
    lines = re.findall(r"^\$ (curl .*localhost:8000.*)$", PAGE, re.MULTILINE)
    assert len(lines) >= 7
    for line in lines:
        done = subprocess.run(
            line.replace("http://localhost:8000", server.url).replace("localhost:8000", server.url),
            shell=True, cwd=photo.parent, capture_output=True, timeout=300, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        refused = b"no-index" in done.stdout or "notes.txt" in line or "big.png" in line
        assert (b'"status"' in done.stdout) == refused, (line, done.stdout)


def test_huggingface_hub(server: Server, photo: Path, jpeg: bytes) -> None:
    client = InferenceClient(token="none is needed")
    url = f"{server.url}/classify"
    ours = server.post("/classify", jpeg).json()["results"][0]["guesses"]
    found = client.image_classification(str(photo), model=url)
    assert [(item.label, item.score) for item in found] == [
        (guess["label"], guess["probability"]) for guess in ours
    ]
    found = client.image_classification(str(photo), model=url, top_k=2)
    assert [item.label for item in found] == [guess["label"] for guess in ours[:2]]


def test_huggingface_hub_with_a_key(model: Path, photo: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef\n")
    with serve("--model", model, "--keys", keys) as server:
        client = InferenceClient(token="0123456789abcdef")
        assert client.image_classification(str(photo), model=f"{server.url}/classify")


def test_a_table_and_json(server: Server, photo: Path, run: Callable) -> None:
    done = run("serving", "classify", photo, photo, "--url", server.url, "--top-k", 3)
    assert done.returncode == 0, done.stderr
    head, *guesses = done.stdout.splitlines()[:4]
    assert head == f"{photo} (tiny, step 12)"
    assert all(re.fullmatch(r" +\d+\.\d\d%  class \d *█*", guess) for guess in guesses)
    done = run("serving", "classify", photo, "--url", server.url, "--json")
    answer = json.loads(done.stdout)
    assert answer["photo"] == str(photo)
    assert len(answer["results"][0]["guesses"]) == 5


def test_a_refused_photo_is_named_and_the_others_are_answered(
    server: Server, photo: Path, run: Callable
) -> None:
    bad = photo.with_name("bad.jpg")
    bad.write_bytes(b"no image")
    done = run("serving", "classify", bad, photo, "--url", server.url)
    assert done.returncode == 1
    reason = "the file is not an image of a supported format (JPEG, PNG, WEBP)"
    assert done.stderr == f"{bad}: refused with 415: {reason}\n"
    assert "(tiny, step 12)" in done.stdout


def test_the_client_comes_back_when_it_is_told_to(
    server: Server, photo: Path, run: Callable
) -> None:
    """A front that says no twice, with Retry-After, and then passes on what the server answered."""
    answer = server.post("/classify", photo.read_bytes()).content
    refusals = [("429", "1"), ("503", "1")]

    class Front(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            status, wait = refusals.pop(0) if refusals else ("200", "")
            self.send_response(int(status))
            self.send_header("retry-after", wait)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Front) as front:
        threading.Thread(target=front.serve_forever, daemon=True).start()
        done = run("serving", "classify", photo, "--url", f"http://127.0.0.1:{front.server_port}")
        front.shutdown()
    assert done.returncode == 0, done.stderr
    assert not refusals
    assert "class" in done.stdout
