"""A user without a home directory, as in a container that runs under a bare user number."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("data", ["builtin", "imagenette"])
def test_training_without_a_home_is_one_line(tmp_path: Path, data: str) -> None:
    unshare = [shutil.which("unshare") or "unshare", "--map-user=12345", "--map-group=12345"]
    if not shutil.which("unshare") or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("this machine allows no user namespaces, so no user without a name")
    done = subprocess.run(
        ["env", "-u", "HOME", "-u", "XDG_CACHE_HOME", *unshare, sys.executable, "-m", "trainer",
         "train", "--data", data, "--name", "x", "--runs", tmp_path, "--datasets", tmp_path],
        cwd=ROOT, text=True, capture_output=True, timeout=150, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done
    assert "HOME is not set, and user 12345 has no entry in /etc/passwd; set HOME" in done.stderr
    assert done.stderr.count("\n") == 1
