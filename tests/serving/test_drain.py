"""SIGTERM, or SIGHUP to one process: what was sent is answered, and then the server is gone. SIGHUP
to several: all is answered, and then they are others."""

import os
import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.serving.conftest import PATIENCE_S, Server, publish, serve, wait_for
from tests.serving.connections import LIVEZ, Connection, load, upload

DRAIN_S = 2


@pytest.mark.parametrize(
    ("workers", "number"),
    [
        (1, signal.SIGTERM),
        pytest.param(2, signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(1, signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_no_request_under_way_is_lost(
    model: Path, jpeg: bytes, workers: int, number: signal.Signals
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(
            serve("--model", model, "--workers", workers, drain_s=DRAIN_S, read_s=60)
        )
        parked, kept, *sent = (stack.enter_context(Connection(server.url)) for _ in range(10))
        answers = stack.enter_context(load(server.url, jpeg))
        wait_for(lambda: server.metric("serving_reloads_total") == workers)
        wait_for(lambda: len(answers) > 10)
        parked.send(upload(jpeg)[:1000])
        kept.send(LIVEZ)
        assert kept.answer().status == 200
        for connection in sent:
            connection.send(upload(jpeg))

        processes = psutil.Process(server.process.pid).children(recursive=True)
        signalled_at = time.monotonic()
        server.process.send_signal(number)
        if workers == 1:
            for decoder in processes:  # as systemd and a terminal that closes do
                decoder.send_signal(number)
        assert [connection.answer().status for connection in sent] == [200] * len(sent)
        with suppress(ConnectionError):
            kept.send(LIVEZ)
            assert kept.answer().status == 200
        assert parked.answer().status == 503
        assert server.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - signalled_at > DRAIN_S  # or the parked one proves nothing
    assert not psutil.wait_procs(processes, timeout=PATIENCE_S)[1]
    for answer in answers:
        if answer.response is None:
            assert answer.asked_at > signalled_at
        else:
            assert answer.response.status_code == 200


@pytest.mark.slow
def test_sighup_replaces_one_of_several_processes_after_the_other(
    pair: Server, jpeg: bytes
) -> None:
    before = pair.processes()
    digest = pair.client.get("/info").json()["model"]["sha256"]
    with load(pair.url, jpeg) as answers:
        wait_for(lambda: len(answers) > 10)
        pair.process.send_signal(signal.SIGHUP)
        assert not psutil.wait_procs(before, timeout=PATIENCE_S)[1]
        enough = len(answers) + 10
        wait_for(lambda: len(answers) > enough)
    after = pair.processes()
    assert len(after) == 2
    assert not set(before).intersection(after)
    assert {answer.response and answer.response.status_code for answer in answers} == {200}
    assert {answer.response.json()["model"]["sha256"] for answer in answers} == {digest}
    assert pair.metric("serving_model{") == 1


def test_a_model_that_is_being_loaded_is_not_waited_for(tmp_path: Path) -> None:
    weights = publish(tmp_path) / "00000012" / "model.safetensors"
    weights.unlink()
    os.mkfifo(weights)  # reading takes for ever, as from a disk that does not answer
    with serve("--model", tmp_path / "tiny", ready=False, drain_s=3600) as server:
        assert server.client.get("/livez").is_success
        assert "being loaded" in server.client.get("/readyz").json()["detail"]
        server.process.terminate()
        assert server.process.wait(PATIENCE_S) == 0
