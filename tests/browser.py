"""A browser for the tests of the web page; `python -m tests.browser` fetches one if need be."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from playwright.sync_api import Browser, Error, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PACKAGES = ("chromium", "libatomic1")
"""Debian's; the second is for Playwright itself."""
MISSING = f"no browser was found; install {' and '.join(PACKAGES)}, then run `make test` again"
FETCHING = "fetching a browser for the tests of the web page:"
DOWNLOAD_S = "300"
"""A download that takes longer is given up."""


@contextmanager
def started() -> Iterator[Browser | None]:
    """The first that starts: one that is installed, or else Playwright's own."""
    if not _run(sys.executable, "-m", "playwright", "--version"):
        yield None  # Playwright itself misses a library, as on the smallest Debian
        return
    with sync_playwright() as playwright:
        browser = _start(playwright)
        yield browser
        if browser is not None:
            browser.close()


def _start(playwright: Playwright) -> Browser | None:
    for path in [*filter(None, map(shutil.which, NAMES)), None]:
        with suppress(Error):  # Ubuntu's chromium-browser only says where to find another
            return playwright.chromium.launch(
                executable_path=path,
                args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
            )
    return None


def is_found() -> bool:
    with started() as browser:
        return browser is not None


def fetch_playwrights() -> None:
    print(f"{FETCHING} Playwright's", flush=True)
    _run("timeout", DOWNLOAD_S, sys.executable, "-m", "playwright", "install", "chromium")


def fetch_debians() -> None:
    """Install by apt-get, as root or by a sudo that asks for no password; otherwise do nothing."""
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive"]
    limited = [*apt, "timeout", DOWNLOAD_S]
    get = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120"]
    install = [*get, "install", "-y", "--no-install-recommends", *PACKAGES]
    if not shutil.which("apt-get") or not _run(*sudo, "true"):
        return
    print(f"{FETCHING} Debian's", flush=True)
    _run(*limited, *get, "update")
    if _run(*limited, *install, "--download-only"):
        _run(*apt, *install)  # without a limit: stopped halfway it would leave a broken system


def _run(*words: str) -> bool:
    """Quietly; whether it succeeded."""
    with suppress(FileNotFoundError):
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        return done.returncode == 0
    return False


def main() -> None:
    for fetch in (fetch_playwrights, fetch_debians):
        if is_found():
            return
        fetch()
    if not is_found():
        print(f"the tests of the web page will be skipped: {MISSING}")


if __name__ == "__main__":
    main()
