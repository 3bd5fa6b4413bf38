"""Workers without a raylet, as real processes."""

import subprocess
import sys
import time
from pathlib import Path

from pipeline.orphans import find_raylets, kill_workers

RAYLET = """
import os, subprocess, sys, time
SLEEP = "import time; time.sleep(600)"
mark = {"RAY_RAYLET_PID": str(os.getpid())}
worker = subprocess.Popen([sys.executable, "-c", SLEEP], env=mark, stdout=subprocess.DEVNULL)
print(worker.pid, flush=True)
time.sleep(600)
"""


def is_running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_workers_of_our_raylets_are_ended_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "raylet").symlink_to(sys.executable)
    command = [tmp_path / "raylet", "-c", RAYLET]
    raylets = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        workers = []
        for raylet in raylets:
            assert raylet.stdout
            workers.append(int(raylet.stdout.readline()))
        assert find_raylets() >= {raylet.pid for raylet in raylets}
    finally:
        for raylet in raylets:
            raylet.kill()
            raylet.communicate()
    assert find_raylets().isdisjoint(raylet.pid for raylet in raylets)
    assert all(map(is_running, workers))  # they have outlived them
    kill_workers(frozenset())
    kill_workers(frozenset({raylets[0].pid}))
    deadline = time.monotonic() + 60
    while is_running(workers[0]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert is_running(workers[1])
    kill_workers(frozenset({raylets[1].pid}))
