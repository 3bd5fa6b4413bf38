"""What memory there is, and freed memory: in a process of its own, as the setting cannot be taken
back."""

import subprocess
import sys

import psutil

from serving.memory import available_bytes
from tests.conftest import ROOT

PROGRAM = """
import sys
from pathlib import Path
from serving.memory import keep_freed

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if "keep" in sys.argv:
    keep_freed()
before = resident()
block = bytearray(2**26)
del block
print(resident() - before > 2**25)
"""


def test_it_stays_with_the_process_where_that_is_asked_for() -> None:
    for words, kept in ((("keep",), "True"), ((), "False")):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *words],
            cwd=ROOT, text=True, capture_output=True, timeout=300, check=True,
        )  # fmt: skip
        assert done.stdout.strip() == kept


def test_some_of_the_machines_memory_is_available() -> None:
    assert 0 < available_bytes() < 1.1 * psutil.virtual_memory().total
