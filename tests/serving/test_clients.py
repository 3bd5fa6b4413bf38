"""What people ask with: curl as printed, huggingface_hub, our own client."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    words = ("--url", server.url, "--top-k", 3, "--min-probability", 1)
    done = run("serving", "classify", photo, photo, *words)
    assert done.returncode == 0, done.stderr
    head, none, *guesses = done.stdout.splitlines()[:5]
    assert none == "  none of these: the best guess has less than 100.00%"
    assert len(guesses) == 3
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


@contextmanager
def front(answer: Callable[[], tuple[int, bytes] | None]) -> Iterator[str]:
    """An address at which each POST gets this status and content, with Retry-After: 1; or, for
    None, a connection that breaks. It says of no limits."""

    class Front(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            if (said := answer()) is None:
                self.close_connection = True
                return
            status, content = said
            self.send_response(status)
            self.send_header("retry-after", "1")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Front) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_client_comes_back_when_it_is_told_to(
    server: Server, photo: Path, run: Callable
) -> None:
    """A front that says no twice, with Retry-After, breaks the connection, and then passes on what
    the server answered."""
    answer = server.post("/classify", photo.read_bytes()).content
    said = [(429, b""), (503, b""), None, (200, answer)]
    with front(lambda: said.pop(0)) as url:
        done = run("serving", "classify", photo, "--url", url)
    assert done.returncode == 0, done.stderr
    assert not said
    assert "class" in done.stdout


def test_a_server_that_goes_away_leaves_the_answers_it_gave(
    server: Server, photo: Path, run: Callable
) -> None:
    answer = server.post("/classify", photo.read_bytes()).content
    said = [(200, answer), (200, answer)]
    with front(lambda: said.pop(0) if said else None) as url:
        done = run("serving", "classify", *4 * [photo], "--url", url, "--json")
    assert done.returncode == 2
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.count("\n") == 1
    assert f"{url}: no answer (" in done.stderr
    assert done.stderr.endswith(f"; {photo} and what comes after it got no answer (2 of 4)\n")


@pytest.mark.parametrize("content", [b"<html>", b"[]", b"{}", b'{"results": []}'])
def test_another_server_is_not_believed(photo: Path, run: Callable, content: bytes) -> None:
    with front(lambda: (200, content)) as url:
        done = run("serving", "classify", photo, "--url", url)
    assert done.returncode == 2
    assert "what answers is no server of this program; correct --url" in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_ends_it_with_one_line(photo: Path) -> None:
    asked = threading.Event()

    def answer() -> tuple[int, bytes]:
        asked.set()
        return 503, b""

    with front(answer) as url:
        words = ["serving", "classify", str(photo), "--url", url]
        client = subprocess.Popen(
            [sys.executable, "-m", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        assert asked.wait(240)
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=240)
    assert client.returncode == 130
    assert said == "python -m serving classify: interrupted\n"


@pytest.fixture
def album(tmp_path: Path, jpeg: bytes) -> Path:
    """A folder of photographs as it is on people's disks, some of them broken."""
    folder = tmp_path / "al bum"
    for name in (b"10.jpg", b"2.jpg", b"deep/with space.jpg", b"l\xf6we.jpg", b"no ending"):
        path = folder / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg)
    for name in (".hidden.jpg", "Thumbs.db", "captions.txt", "@eaDir/x.jpg", "__MACOSX/x.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(jpeg)
    (folder / "3.jpg").write_bytes(jpeg[:900])
    (folder / "4.jpg").write_bytes(b"")
    (folder / "5.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "6.jpg")
    (folder / "line\nbreak.jpg").write_bytes(jpeg)
    (folder / "loop").symlink_to(folder)
    return folder


BROKEN = {"3.jpg": "refused", "4.jpg": "refused", "5.jpg": "No such file", "6.jpg": "not a regular"}


def test_a_folder_is_asked_about_file_by_file(
    server: Server, photo: Path, album: Path, run: Callable
) -> None:
    """In order, each on its line; what is broken stops nothing."""
    names = [
        "10.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg", "deep/with space.jpg",
        "line\nbreak.jpg", "l\udcf6we.jpg", "no ending",
    ]  # fmt: skip
    expected = [str(photo), *(f"{album}/{name}" for name in names), f"{album}/none", str(photo)]
    places = [photo, album, album / "none", photo]
    done = run("serving", "classify", *places, "--url", server.url, "--json")
    assert done.returncode == 1, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["photo"] for line in lines] == expected
    alone = server.post("/classify", photo.read_bytes()).json()
    for line in lines:
        name = Path(line.pop("photo")).name
        if reason := (BROKEN | {"none": "No such file"}).get(name):
            assert line["error"].startswith(reason) or reason in line["error"]
            continue
        assert line.keys() == alone.keys()
        (result,) = line["results"]
        assert result["index"] == 0
        assert [g["id"] for g in result["guesses"]] == [
            g["id"] for g in alone["results"][0]["guesses"]
        ]
    head, *said = done.stderr.splitlines()
    assert head.startswith(f"{album}: left out: .db (1), .txt (1), @eaDir/ (1), __MACOSX/ (1)")
    assert [Path(line.split(": ")[0]).name for line in said] == [*BROKEN, "none"]

    table = run("serving", "classify", *places, "--url", server.url, "--top-k", 1)
    assert table.returncode == 1
    heads = table.stdout.splitlines()[::2]
    assert len(heads) == len(expected) - len(BROKEN) - 1
    assert f"{album}/l\\xf6we.jpg (tiny, step 12)" in heads
    assert f"{album}/line\\nbreak.jpg (tiny, step 12)" in heads
    assert table.stderr == done.stderr


def test_the_limits_of_the_server_are_kept(
    model: Path, photo: Path, jpeg: bytes, run: Callable
) -> None:
    room = 3 * len(jpeg)
    large = photo.with_name("large.jpg")
    large.write_bytes(jpeg + bytes(room))
    settings = {"max_files": 3, "max_upload_bytes": room, "queue_pictures": 3}
    with serve("--model", model, **settings) as server:
        done = run("serving", "classify", *7 * [photo], large, "--url", server.url, "--json")
        asked = server.metric('serving_requests_total{method="POST",route="/classify"')
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 8
    assert f"{large}: the file is larger than the {room:,} bytes that the server" in done.stderr
    assert asked == 4  # of two each


def test_standard_input(server: Server, photo: Path, run: Callable) -> None:
    with photo.open("rb") as file:
        done = run("serving", "classify", "-", photo, "--url", server.url, "--json", stdin=file)
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["photo"], second["photo"]) == ("-", str(photo))
    assert first["results"] == second["results"]


def test_nothing_to_ask_about(server: Server, tmp_path: Path, run: Callable) -> None:
    (tmp_path / "empty").mkdir()
    done = run("serving", "classify", tmp_path / "empty", tmp_path / "none", "--url", server.url)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"{tmp_path}/empty: there is no photograph in this folder",
        f"{tmp_path}/none: No such file or directory; check the path",
    ]
