"""Processes that are killed, and clients that leave."""

import time

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


def test_an_image_whose_decoder_dies_twice_is_refused(hardy: Server, jpeg: bytes) -> None:
    hardy.post("/classify", jpeg).raise_for_status()
    with Connection(hardy.url) as connection:
        for decoder in hardy.decoders():
            decoder.suspend()
        connection.send(upload(jpeg))
        while connection.is_silent():
            for decoder in hardy.decoders():
                decoder.kill()
        answer = connection.answer()
    assert answer.status == 400
    assert b"its decoder crashed twice" in answer.body
    assert hardy.post("/classify", jpeg).is_success


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
