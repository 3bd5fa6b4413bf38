"""deploy/audit fails for a vulnerable pin alone. OSV's database is a stand-in, asked over HTTP."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from tests.conftest import ROOT

OLD = ("jinja2", "2.10")
PINS = dict(re.findall(r"^([^#=]+)==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))


def audit(url: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [ROOT / "deploy" / "audit"],
        env={**os.environ, "PATH": path, "OSV_URL": url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextmanager
def database(*vulnerable: tuple[str, str]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The URL of a database, and what it is asked for: pairs of a name and a version."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["content-length"])))
            name, version = query["package"]["name"], query["version"]
            asked.append((name, version))
            package = {"name": name, "ecosystem": "PyPI"}
            affected = {"package": package, "versions": [version]}
            hole = {"id": f"PYSEC-0-{name}", "summary": "a hole", "affected": [affected]}
            answer = json.dumps({"vulns": [hole]} if (name, version) in vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_every_pin_is_asked_for_and_all_are_well() -> None:
    with database(OLD) as (url, asked):
        done = audit(url)
    assert done.returncode == 0, done.stdout
    assert "No known vulnerabilities found" in done.stdout
    assert len(asked) == 1 + len(PINS)


def test_a_vulnerable_pin_fails_and_is_named() -> None:
    with database(OLD, ("pillow", PINS["pillow"])) as (url, _):
        done = audit(url)
    assert done.returncode == 1, done.stdout
    assert "PYSEC-0-pillow" in done.stdout


def test_no_database_is_one_line_and_no_failure() -> None:
    with database() as (url, asked):  # answers, but knows nothing: a proxy, not a database
        silent = audit(url)
    assert asked == [OLD]
    for done in (silent, audit(url)):  # and now nobody listens there
        assert done.returncode == 0
        assert done.stdout == "dependency audit skipped: no vulnerability database can be reached\n"


def test_a_missing_pip_audit_is_no_reason_to_pass() -> None:
    path = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run([ROOT / "deploy" / "audit"], env=path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "pip-audit" in done.stderr
