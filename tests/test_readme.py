"""The README is short, and its lines run as printed."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_it_has_at_most_1200_words() -> None:
    assert len(README.split()) <= 1200


@pytest.mark.slow
def test_the_lines_step_by_step_run_as_printed(tmp_path: Path) -> None:
    """In a copy of the checkout, for one epoch and on a free port."""
    mark = "<!-- tests/test_readme.py runs these lines -->\n```bash\n"
    block = README.split(mark)[1].split("```")[0]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "--workers 2" in block
    script = block.replace("--workers 2", "--workers 2 --epochs 1").replace(
        "--wait 60", f"--wait 60 --url http://127.0.0.1:{port}"
    )
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, files.split("\0")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / name)  # with its time: make has nothing to install
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    done = subprocess.run(
        ["bash", "-c", f"set -e; export SERVING_PORT={port}; trap 'kill %1' EXIT\n{script}"],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "disc/00000.jpg (shapes, step 29)" in done.stdout
