"""Starting a server or client wrongly: one line, exit 2."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--model", "nowhere"), "nowhere: there is no published model"),
        ((), "--model or SERVING_MODEL is missing"),
        (
            ("--model", "m", "--port", "99999"),
            "--port or SERVING_PORT is 99999: expected at most",
        ),
        (("--modle", "m"), "No such option: --modle (Possible options: --model)"),
        (("index", "models/x", "d"), "is now `alexnet index MODEL --data DATASET`, with the extra"),
        (("classify", "none.jpg", "--url", "http://127.0.0.1:9"), "none.jpg: No such file"),
        (("classify", "Makefile", "--url", "http://127.0.0.1:9"), "is the server running?"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(run: Callable, words: tuple, text: str) -> None:
    done = run("serving", *words)
    assert done.returncode == 2
    assert text in done.stderr
    assert done.stderr.count("\n") == 1


def test_damaged_weights_are_not_served(tmp_path: Path, run: Callable) -> None:
    (tmp_path / "about.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    done = run("serving", "--model", tmp_path)
    assert done.returncode == 2
    assert "about.json" in done.stderr
