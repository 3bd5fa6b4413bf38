"""The plain lines of progress."""

import pytest

from pipeline.progress import ProgressBar


def test_nothing_done_has_no_speed(capsys: pytest.CaptureFixture) -> None:
    with ProgressBar("fetch", 2000, "bytes"):
        pass
    assert capsys.readouterr().out == "fetch: 0 of 2,000 bytes\n"


def test_what_was_there_before_is_not_counted_in_the_speed(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    with ProgressBar("fetch", 2000, "bytes", done=1000) as progress:
        now_s = 2.0
        progress.advance(400)
    assert capsys.readouterr().out == "fetch: 1,400 of 2,000 bytes, 200 bytes/s, 3 s left\n"
