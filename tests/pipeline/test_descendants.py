"""Processes of processes, for real."""

import os
import subprocess
import sys
import time
from pathlib import Path

from pipeline.descendants import Process, descendants, kill

TREE = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "leaf"])
print("ready", flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_what_is_below_a_child_is_found_and_ended(tmp_path: Path) -> None:
    name = "odd) name"  # /proc/PID/stat has it in brackets
    (tmp_path / name).symlink_to(sys.executable)
    command = [tmp_path / name, "-c", TREE]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout
            child.stdout.readline()
            (leaf,) = descendants(name)
            assert leaf.parent == child.pid
            assert descendants("another name") == []
        finally:
            child.kill()
    assert is_running(leaf.pid)  # it has outlived its parent
    kill([leaf, Process(os.getpid(), 1, started=0)])  # the second had our number, earlier
    deadline = time.monotonic() + 60
    while is_running(leaf.pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    kill([leaf])
