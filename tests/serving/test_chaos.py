"""Processes that are killed, and clients that leave."""

import time
from http.client import HTTPResponse

import psutil
import pytest

from tests.serving.conftest import PATIENCE_S, Server, wait_for
from tests.serving.connections import Connection, load, upload

CLIENTS = 4


def test_killed_decoders_cost_no_answer(hardy: Server, jpeg: bytes) -> None:
    def everybody_is_answered() -> None:
        now = time.monotonic()
        wait_for(lambda: len({a.client for a in answers if a.asked_at > now}) == CLIENTS)

    with load(hardy.url, jpeg, CLIENTS) as answers:
        everybody_is_answered()
        for _ in range(3):
            for decoder in hardy.decoders():
                decoder.kill()
                everybody_is_answered()  # or the next kill may be the second of one image
    assert {answer.response and answer.response.status_code for answer in answers} == {200}
    for decoder in hardy.decoders():
        decoder.kill()  # while they are idle
    hardy.post("/classify", jpeg).raise_for_status()


def ended(server: Server, image: bytes) -> HTTPResponse:
    """The answer about an image while every decoder that takes it is killed."""
    with Connection(server.url) as connection:
        for decoder in server.decoders():
            decoder.suspend()
        connection.send(upload(image))
        while connection.is_silent():
            for decoder in server.decoders():
                decoder.kill()
        return connection.answer()


def test_an_image_whose_decoders_are_killed_may_be_sent_again_but_not_for_ever(
    hardy: Server, jpeg: bytes
) -> None:
    """The system's killer of processes that take memory may have been the cause, or the image."""
    hardy.post("/classify", jpeg).raise_for_status()
    victim = jpeg + b"\0"
    first = ended(hardy, victim)
    assert first.status == 503
    assert int(first.headers["retry-after"]) >= 1
    assert b"send it again" in first.body
    second = ended(hardy, victim)
    assert second.status == 400
    assert b"its decoder crashed 3 times" in second.body
    before = {decoder.pid for decoder in hardy.decoders()}
    assert hardy.post("/classify", victim).status_code == 400
    assert hardy.post("/classify", jpeg).is_success
    assert before <= {decoder.pid for decoder in hardy.decoders()}


def test_who_leaves_ends_no_decoder(hardy: Server, jpeg: bytes) -> None:
    hardy.post("/classify", jpeg).raise_for_status()
    before = {decoder.pid for decoder in hardy.decoders()}
    for _ in range(40):
        with Connection(hardy.url) as connection:
            connection.send(upload(jpeg))
    hardy.post("/classify", jpeg).raise_for_status()
    assert before <= {decoder.pid for decoder in hardy.decoders()}


def test_who_leaves_is_waited_for_no_longer(hardy: Server, jpeg: bytes) -> None:
    hardy.post("/classify", jpeg).raise_for_status()
    dropped = hardy.metric("serving_dropped_total")
    for decoder in hardy.decoders():
        decoder.suspend()
    leaving = [Connection(hardy.url) for _ in range(20)]
    for connection in leaving:
        connection.send(upload(jpeg))
    wait_for(lambda: hardy.metric("serving_queue_views") == 10 * len(leaving))
    for connection in leaving:
        connection.close()
    wait_for(lambda: hardy.metric("serving_queue_views") == 0)
    assert hardy.metric("serving_dropped_total") == dropped + len(leaving)
    assert hardy.post("/classify", jpeg).is_success
    assert len(hardy.decoders()) <= 2


@pytest.mark.slow
def test_a_killed_server_process_costs_its_own_connections(pair: Server, jpeg: bytes) -> None:
    with load(pair.url, jpeg, CLIENTS) as answers:
        wait_for(lambda: len(answers) > 20)
        victim = max(pair.processes(), key=lambda process: len(process.net_connections()))
        decoders = victim.children()
        victim.kill()
        wait_for(lambda: len(pair.processes()) == 2 and victim not in pair.processes())
        wait_for(lambda: pair.metric("serving_reloads_total") > 2)
        enough = len(answers) + 20
        wait_for(lambda: len(answers) > enough)
    broken = [answer for answer in answers if answer.response is None]
    assert broken
    assert len({answer.client for answer in broken}) == len(broken)  # nobody's next try fails
    assert all(answer.response.is_success for answer in answers if answer.response)
    assert not psutil.wait_procs(decoders, timeout=PATIENCE_S)[1]
    wait_for(lambda: pair.metric("serving_queue_views") == 0)
