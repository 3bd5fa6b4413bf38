"""A run's folder in a store: nothing is lost that was kept, nothing half-written is read."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import torch
from tensorboardX.proto import event_pb2

from alexnet.store.errors import NoBucketError, StoreError
from alexnet.store.lease import held
from alexnet.store.store import Store
from alexnet.store.url import StoreURL
from tests.object_store import Server, environment
from tests.trainer.test_run import a_run
from tests.trainer.test_train import records
from trainer.folder import stored
from trainer.folder.stored import StoredFolder
from trainer.loop.log import Log
from trainer.report import draw_curves
from trainer.run import Run, RunError, ask_to_stop, events, find_run, open_run

NUMBER = count()
NO_LEASE_S = 2.0


@pytest.fixture
def runs(store_server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreURL]:
    """A folder of runs in a store, where waiting is short."""
    monkeypatch.setattr(stored, "held", partial(held, lease_s=NO_LEASE_S))
    monkeypatch.setattr(stored, "LOOK_S", 0.05)
    with environment(store_server.environment()):
        yield StoreURL(f"s3://private/folders-{next(NUMBER)}")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def stored_run(runs: StoreURL, **changes: object) -> Run:
    return a_run(runs, **changes)  # type: ignore[arg-type]


def told(run: Run) -> list[int]:
    return [event["step"] for event in events(run.metrics)]


def line(step: int) -> str:
    return json.dumps({"kind": "train", "step": step})


def test_a_run_is_opened_found_and_resumed(runs: StoreURL, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run r in s3://private/.* to resume"):
        open_run(stored_run(runs), resume="yes")
    with pytest.raises(RunError, match=r"/r/config.json: No such file.* check the run's name"):
        find_run(runs, "r")
    run = open_run(stored_run(runs), resume="if-any")
    assert find_run(runs, "r") == run == open_run(run, resume="yes")
    assert Run.model_validate_json(run.model_dump_json()) == run
    assert run.directory == runs / "r"
    with pytest.raises(RunError, match=r"run r exists already in s3://.*--resume, or choose"):
        open_run(run, resume="no")
    with pytest.raises(RunError, match="began with another dataset"):
        open_run(stored_run(runs, dataset="1" * 64), resume="yes")
    assert told(run) == []
    with pytest.raises(RunError, match=r"s/metrics: No such file.* check the run's name"):
        draw_curves(runs / "s" / "metrics", tmp_path / "curves")
    with pytest.raises(NoBucketError, match="there is no bucket nowhere"):
        open_run(stored_run(StoreURL("s3://nowhere/runs")), resume="no")


def test_who_may_only_read_is_told(runs: StoreURL, store_server: Server) -> None:
    with (
        environment(store_server.environment("reader")),
        pytest.raises(StoreError, match=r"r/config.json: access is denied \(AccessDenied\)"),
    ):
        open_run(stored_run(runs), resume="no")


def test_what_is_kept_is_read_whole_and_what_a_killed_worker_wrote_since_is_not(
    runs: StoreURL,
) -> None:
    run = open_run(stored_run(runs), resume="no")
    killed = run.folder.journal(0)
    killed.write(line(1))  # the first goes up at once
    until(lambda: told(run) == [1])
    killed.write(line(2))
    assert told(run) == [1]
    killed.keep()
    killed.write(line(3))
    assert told(run) == [1, 2]

    resumed = run.folder.journal(2)
    resumed.write(line(3))
    resumed.keep()
    killed.write(line(4))  # it was thought dead, and is not
    killed.close()
    resumed.write(line(4))
    resumed.close()
    assert told(run) == [1, 2, 3, 4, 3, 4]
    assert [*Store(run.directory).names("metrics/")] == [
        "metrics/00000000.jsonl", "metrics/00000001.jsonl"
    ]  # fmt: skip


def test_a_part_that_is_large_is_not_written_any_more(
    runs: StoreURL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "PART_BYTES", 10)
    run = open_run(stored_run(runs), resume="no")
    first, other = run.folder.journal(0), run.folder.journal(0)
    with closing(run.folder.follow()) as follower, closing(first), closing(other):
        for step in range(1, 6):
            first.write(line(step))
            first.keep()
            other.write(line(10 * step))  # their parts get no name twice
            other.keep()
        seen = [json.loads(text)["step"] for text in follower.lines(now=True)]
    assert sorted(told(run)) == sorted(seen) == [1, 2, 3, 4, 5, 10, 20, 30, 40, 50]
    assert len(Store(run.directory).names("metrics/")) == 10


def test_who_follows_sees_each_line_once(runs: StoreURL) -> None:
    run = open_run(stored_run(runs), resume="no")
    with closing(run.folder.journal(0)) as journal:
        journal.write(line(1))
    journal, seen = run.folder.journal(1), []
    with closing(run.folder.follow()) as follower, closing(journal):
        for step in range(2, 8):
            journal.write(line(step))
            journal.keep()

            def has_come(step: int = step) -> bool:
                seen.extend(json.loads(text)["step"] for text in follower.lines())
                return seen[-1:] == [step]

            until(has_come)
        journal.write(line(8))
        assert follower.lines(now=True) == []
    assert seen == [2, 3, 4, 5, 6, 7]


def test_tensorboard_gets_whole_files(runs: StoreURL, tmp_path: Path) -> None:
    run = open_run(stored_run(runs), resume="no")
    log = Log(run, 6)
    for step in (7, 8, 9):
        log.images(torch.zeros(1, 3, 8, 8), torch.zeros(3, 8, 8), step)
        log.train(step=step, epoch=1, rate=1, loss=1, top1=0, gradient_norm=1, images_per_s=1,
                  wait=0)  # fmt: skip
        if step < 9:
            log.keep()
    log.close()
    store = Store(run.directory)
    files = [
        [event_pb2.Event.FromString(record) for record in records(store.read(name))]
        for name in store.names("tensorboard/")
    ]
    steps = [{event.step for event in file if event.summary.value} for file in files]
    assert steps == [{7}, {8}, {9}]
    begins = [event for file in files for event in file if event.session_log.status]
    assert [event.step for event in begins] == [7]
    assert [path.suffix for path in draw_curves(run.metrics, tmp_path / "c")] == [".png", ".svg"]


def test_what_cannot_be_kept_is_told(runs: StoreURL, store_server: Server) -> None:
    run = open_run(stored_run(runs), resume="no")
    with environment(store_server.environment("reader")):
        journal = StoredFolder(run.directory).journal(0)
        journal.write(line(1))
        with pytest.raises(StoreError, match="access is denied"):
            journal.keep()
        with pytest.raises(StoreError, match="access is denied"):
            journal.close()


def test_one_process_trains_a_run_and_only_a_running_one_is_stopped(
    runs: StoreURL, capsys: pytest.CaptureFixture[str]
) -> None:
    run = open_run(stored_run(runs), resume="no")
    with pytest.raises(RunError, match="run r is not running, so there is nothing to stop"):
        ask_to_stop(run)
    with closing(run.folder.stop()) as worker:
        assert not worker.asked()
        with run.held() as lost:
            with (
                pytest.raises(RunError, match=r"run r is being trained already; .*stop r --runs"),
                run.held(),
            ):
                pytest.fail("two train it")
            ask_to_stop(run)
            until(worker.asked)
            assert lost() is None
    assert "held by process" in capsys.readouterr().out
    with closing(run.folder.stop()) as driver:
        driver.clear()
        assert not driver.asked()
    assert "stop" not in Store(run.directory).names()


def test_a_dead_process_loses_a_run_and_who_lost_one_is_told(runs: StoreURL) -> None:
    run = open_run(stored_run(runs), resume="no")
    Store(run.directory).write("lock", b'{"host": "gone", "process": "7"}')
    with run.held() as lost:
        Store(run.directory).remove(["lock"])
        until(lambda: lost() is not None)
        assert "another process has taken over, or somebody removed" in str(lost())
