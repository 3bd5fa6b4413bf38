"""Where the browser of the page's tests comes from, on a PATH that holds nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.browser import MISSING, NAMES, started
from tests.conftest import ROOT

REAL = next(filter(None, map(shutil.which, NAMES)), None)
needs_one = pytest.mark.skipif(REAL is None, reason="no browser is installed to be found")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH; Playwright has no browser and can fetch none."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "none"))
    monkeypatch.setenv("PLAYWRIGHT_DOWNLOAD_HOST", "http://127.0.0.1:9")
    return folder


def script(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{line}\n")
    path.chmod(0o755)
    return path


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=ROOT, text=True, capture_output=True, timeout=600, check=False,
    )  # fmt: skip


@needs_one
def test_the_first_that_starts_is_taken(path: Path) -> None:
    script(path / "chromium-browser", "echo 'install the snap of that name'; exit 1")
    script(path / "google-chrome", f'touch "{path}/started"; exec "{REAL}" "$@"')
    with started() as browser:
        assert browser is not None
    assert (path / "started").exists()


def test_without_any_the_pages_tests_are_skipped_and_one_line_says_so(path: Path) -> None:
    done = python("pytest", "-p", "no:cacheprovider", "tests/serving/test_page.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" not in done.stdout
    assert done.stdout.count(f"The tests of the web page were skipped: {MISSING}.") == 1


@needs_one
def test_debians_is_fetched_where_there_is_none(path: Path) -> None:
    browser = script(path / "its chromium", f'exec "{REAL}" "$@"')
    script(path / "sudo", 'shift; exec "$@"')
    for tool in ("env", "timeout", "true"):
        script(path / tool, f'PATH={path} exec /usr/bin/{tool} "$@"')
    unless = 'case "$*" in *--download-only | *update) exit;; esac'
    link = f'ln -s "{browser}" {path}/chromium'
    script(path / "apt-get", f'echo "$*" >> {path}/asked\n{unless}\n{link}')
    done = python("tests.browser")
    assert (done.returncode, done.stderr) == (0, "")
    assert MISSING not in done.stdout
    update, download, install = (path / "asked").read_text().splitlines()
    assert update.endswith("update")
    assert f"{install} --download-only" == download


@pytest.mark.parametrize("has_apt", [True, False])
def test_where_none_can_be_had_nothing_fails(path: Path, has_apt: bool) -> None:
    if has_apt:
        script(path / "apt-get", "echo 'no network' >&2; exit 100")
    done = python("tests.browser")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"{MISSING}\n")
