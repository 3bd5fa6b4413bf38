"""Starting a server or client wrongly: one line, exit 2."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.__main__ import main


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
def test_bad_usage_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str
) -> None:
    assert main(list(words)) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.count("\n") == 1


def test_damaged_weights_are_not_served(tmp_path: Path, run: Callable) -> None:
    (tmp_path / "about.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    done = run("serving", "--model", tmp_path)
    assert done.returncode == 2
    assert "about.json" in done.stderr


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "http://:x"])
def test_this_machine_is_asked_without_a_proxy(run: Callable, variable: str, proxy: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    done = run("serving", "classify", "Makefile", "--url", url, env=os.environ | {variable: proxy})
    assert done.returncode == 2
    assert f"{url}: no answer (" in done.stderr
    assert "proxy" not in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "http://:x"])
def test_a_proxy_that_stands_between_is_named(run: Callable, proxy: str) -> None:
    variables = os.environ | {"http_proxy": proxy}
    done = run("serving", "classify", "Makefile", "--url", "http://host.invalid", env=variables)
    assert done.returncode == 2
    assert f", asked through http_proxy={proxy}" in done.stderr
    assert done.stderr.count("\n") == 1
