"""SIGTERM: what has been sent is answered, and then the server is gone."""

import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from alexnet.model import AlexNetConfig
from tests.serving.connections import Connection, load, upload
from tests.serving.conftest import publish, serve, wait_for

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: server\r\n\r\n"
READ_S, DRAIN_S = 3, 10


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_under_load_no_request_is_lost(model: Path, jpeg: bytes, workers: int) -> None:
    settings = {"read_s": READ_S, "drain_s": DRAIN_S}
    with ExitStack() as stack:
        server = stack.enter_context(serve("--model", model, "--workers", workers, **settings))
        connect = lambda: stack.enter_context(Connection(server.url))  # noqa: E731
        answers = stack.enter_context(load(server.url, jpeg))
        wait_for(lambda: len(answers) > 10)
        parked, kept, sent = connect(), connect(), [connect() for _ in range(8)]
        parked.send(upload(jpeg)[:1000])
        kept.send(LIVEZ)
        assert kept.answer().status == 200
        for connection in sent:
            connection.send(upload(jpeg))

        signalled_at = time.monotonic()
        processes = psutil.Process(server.process.pid).children(recursive=True)
        server.process.terminate()
        if workers == 1:
            for decoder in processes:  # systemd signals every process of a service
                decoder.terminate()
        assert [connection.answer().status for connection in sent] == [200] * len(sent)
        try:
            kept.send(LIVEZ)
            assert kept.answer().status in (200, 503)
        except ConnectionError:
            pass
        assert server.process.wait(DRAIN_S + 5) == 0
        ended_s = time.monotonic() - signalled_at
    assert not any(process.is_running() for process in processes)
    print(ended_s)
    for answer in answers:
        late = answer.asked_at > signalled_at
        if answer.response is None:
            assert late
        elif answer.response.status_code == 503:
            assert late
            assert answer.response.headers["retry-after"]
        else:
            assert answer.response.status_code == 200
    print([(round(a.asked_at-signalled_at,3), a.response and a.response.status_code) for a in answers if a.asked_at+a.seconds>signalled_at])


def test_while_a_model_is_being_loaded(tmp_path: Path) -> None:
    model = publish(tmp_path, network=AlexNetConfig(classes=7))
    with serve("--model", model, ready=False) as server:
        signalled_at = time.monotonic()
        server.process.terminate()
        assert server.process.wait(10) == 0
        print(time.monotonic() - signalled_at)
