"""Which servers are asked through a proxy."""

import pytest

from alexnet.proxy import is_loopback, through_proxy

HERE = ["http://localhost:8000", "http://127.0.0.1:8000", "http://127.8.9.1", "http://[::1]:80",
        "https://LOCALHOST", "http://a.localhost:1"]  # fmt: skip
ELSEWHERE = ["http://host:8000", "http://10.0.0.1", "http://localhost.org", "http://[2001:db8::1]"]


@pytest.fixture(autouse=True)
def _proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy:3128")


@pytest.mark.parametrize("url", HERE)
def test_this_machine_is_asked_directly(url: str) -> None:
    assert is_loopback(url)
    assert through_proxy(url) == ""


@pytest.mark.parametrize("url", ELSEWHERE)
def test_others_through_the_proxy_which_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_loopback(url)
    assert through_proxy(url) == ", asked through http_proxy=http://proxy:3128"
    monkeypatch.setenv("no_proxy", "*")
    assert through_proxy(url) == ""
