"""Downloads over real sockets, from servers that break off, ignore what is asked, or lie."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.manifest import DatasetError
from pipeline.sources.download import Remote, download, unpacked
from tests.pipeline.sources.file_server import (
    CONTENT,
    Answer,
    Request,
    Server,
    half_and_a_reset,
    half_of_the_rest,
    notice,
    rest,
    running,
    status,
    whole,
    whole_of_unsaid_length,
    zeros,
)


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as server:
        yield server


def test_a_file_arrives_whole_and_alone(server: Server, tmp_path: Path) -> None:
    download(server.remote, tmp_path / "x.tgz")
    assert (tmp_path / "x.tgz").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["x.tgz"]
    download(server.remote, tmp_path / "x.tgz")
    assert server.ranges == ["bytes=0-"]


@pytest.mark.parametrize("broken", [half_of_the_rest, half_and_a_reset])
def test_a_broken_connection_is_taken_up_where_it_broke(
    server: Server, tmp_path: Path, broken: Answer
) -> None:
    server.answers = [broken, broken, rest]
    download(server.remote, tmp_path / "x.tgz", pauses_s=(0, 0))
    assert (tmp_path / "x.tgz").read_bytes() == CONTENT
    first, second, third = (int(asked[6:-1]) for asked in server.ranges)
    if broken is half_of_the_rest:
        assert (first, second, third) == (0, 500_000, 750_000)
    else:  # a reset discards what is on its way
        assert first == 0 <= second <= third <= 750_000


def test_a_killed_download_is_continued_by_the_next(server: Server, tmp_path: Path) -> None:
    released = threading.Event()

    def half_and_silence(request: Request, content: bytes, start: int) -> None:
        half_of_the_rest(request, content, start)
        released.wait()

    server.answers = [half_and_silence, rest]
    process = start_process(server.remote, "download", tmp_path / "x.tgz")
    partial = tmp_path / "x.tgz.partial"
    while not (partial.exists() and partial.stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    released.set()
    here = partial.stat().st_size
    download(server.remote, tmp_path / "x.tgz")
    assert server.ranges == ["bytes=0-", f"bytes={here}-"]
    assert (tmp_path / "x.tgz").read_bytes() == CONTENT


def test_what_is_here_stays_when_the_connection_does_not_come_back(
    server: Server, tmp_path: Path
) -> None:
    server.answers = [half_of_the_rest, status(503), rest]
    with pytest.raises(
        DatasetError,
        match=r"x\.tgz: HTTP Error 503.* \(500,000 of 1,000,000 bytes have arrived\); check ",
    ):
        download(server.remote, tmp_path / "x.tgz", pauses_s=(0,))
    download(server.remote, tmp_path / "x.tgz")
    assert server.ranges == ["bytes=0-", "bytes=500000-", "bytes=500000-"]
    assert (tmp_path / "x.tgz").read_bytes() == CONTENT


@pytest.mark.parametrize("answers", [[whole], [whole_of_unsaid_length], [status(416), rest]])
@pytest.mark.parametrize("size", [300_000, 2_000_000])
def test_a_server_that_cannot_continue_starts_over(
    server: Server, tmp_path: Path, answers: list[Answer], size: int
) -> None:
    (tmp_path / "x.tgz.partial").write_bytes(bytes(size))
    server.answers = answers
    download(server.remote, tmp_path / "x.tgz", pauses_s=(0,))
    assert server.ranges[0] == f"bytes={size}-"
    assert (tmp_path / "x.tgz").read_bytes() == CONTENT


def test_a_partial_file_that_is_whole_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.tgz.partial").write_bytes(CONTENT)
    download(server.remote, tmp_path / "x.tgz")
    assert server.ranges == []
    assert (tmp_path / "x.tgz").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (
            zeros,
            r"/x\.tgz: the SHA-256 is [0-9a-f]{64}, not [0-9a-f]{64}: .* damaged .* fetch it ag",
        ),
        (notice, r"/x\.tgz: the server has 19 bytes, not 1,000,000: another file, or a notice"),
    ],
)
def test_wrong_bytes_are_removed(server: Server, tmp_path: Path, answer: Answer, text: str) -> None:
    server.answers = [answer, rest]
    with pytest.raises(DatasetError, match=text):
        download(server.remote, tmp_path / "x.tgz")
    assert list(tmp_path.iterdir()) == []
    download(server.remote, tmp_path / "x.tgz")
    assert (tmp_path / "x.tgz").read_bytes() == CONTENT


def test_a_file_that_is_not_there_is_asked_for_once(server: Server, tmp_path: Path) -> None:
    server.answers = [status(404)]
    with pytest.raises(DatasetError, match=r"x\.tgz: HTTP Error 404: Not Found \(0 of 1,000,000"):
        download(server.remote, tmp_path / "x.tgz", pauses_s=(0, 0, 0))
    assert len(server.ranges) == 1


def test_without_a_network_the_way_out_is_told(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        remote = Remote(f"http://127.0.0.1:{unused.getsockname()[1]}/x.tgz", 10, "5ec0")
        with pytest.raises(
            DatasetError,
            match=r"refused.* \(0 of 10 bytes.* put a copy .* at .*x\.tgz, with .*5ec0",
        ):
            download(remote, tmp_path / "x.tgz", pauses_s=(0,))


def test_a_file_that_was_put_there_is_taken_if_it_is_the_right_one(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "x.tgz").write_bytes(CONTENT)
    download(server.remote, tmp_path / "x.tgz")
    (tmp_path / "x.tgz").write_bytes(CONTENT[:-1])
    with pytest.raises(DatasetError, match=r"x\.tgz: the SHA-256 is [0-9a-f]{64}, not .*; remove"):
        download(server.remote, tmp_path / "x.tgz")
    assert server.ranges == []
    assert (tmp_path / "x.tgz").read_bytes() == CONTENT[:-1]


def test_a_file_on_this_machine_is_fetched_like_another(server: Server, tmp_path: Path) -> None:
    """An address may be that of a mounted folder, whose files know no ranges."""
    (tmp_path / "x").write_bytes(CONTENT)
    (tmp_path / "y.partial").write_bytes(CONTENT[:99])
    download(server.remote._replace(url=(tmp_path / "x").as_uri()), tmp_path / "y")
    assert (tmp_path / "y").read_bytes() == CONTENT


def test_two_processes_fetch_and_unpack_once(
    server: Server, tmp_path: Path, tar: Callable[..., bytes]
) -> None:
    server.content = tar({"x/a/1": b"one", "x/b/2": b"two"}, mode="w:gz")

    def slow(request: Request, content: bytes, start: int) -> None:
        time.sleep(1)
        rest(request, content, start)

    server.answers = [slow]
    processes = [start_process(server.remote, "unpacked", tmp_path / "new/x") for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert server.ranges == ["bytes=0-"]
    assert (tmp_path / "new/x/a/1").read_bytes() == b"one"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["x", "x.lock"]


def test_half_an_unpacked_folder_is_not_taken_for_one(
    server: Server, tmp_path: Path, tar: Callable[..., bytes]
) -> None:
    server.content = tar({"x/a/1": b"one"}, mode="w:gz")
    (tmp_path / "x.partial/x/left-over").mkdir(parents=True)
    assert [path.name for path in unpacked(server.remote, tmp_path / "x").iterdir()] == ["a"]


def start_process(remote: Remote, function: str, path: Path) -> subprocess.Popen[bytes]:
    code = (
        "import sys; from pathlib import Path; from pipeline.sources.download import *\n"
        f"{function}(Remote(*{tuple(remote)!r}), Path(sys.argv[1]))"
    )
    return subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.DEVNULL)
