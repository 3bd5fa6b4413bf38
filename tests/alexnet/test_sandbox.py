"""What a process in the sandbox can do, asked of one: decode as before, and nothing else."""

import json
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from alexnet import sandbox
from tests.alexnet.test_formats import WRITTEN, encoded, slope
from tests.conftest import ROOT

pytestmark = pytest.mark.skipif(
    not sandbox.available(), reason="seccomp is missing here, and with it the sandbox"
)
SYSTEM_CALLS = 1024
"""More than there are."""
PROBES = {335, 336}
"""Of the kernel's own use: no filter sees them, and who calls them from elsewhere gets SIGILL."""


def inside(code: str, *words: object, given: bytes = b"") -> str:
    """What Python code prints that runs in the sandbox from where it calls `enter`."""
    code = "from alexnet.sandbox import enter\n" + code
    command = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(command, input=given, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def test_no_file_no_connection_no_process(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("text")
    code = """
import ctypes, os, socket, subprocess, sys
there, new = sys.argv[1:]
enter()
attempts = {
    "read a file": lambda: open(there),
    "write a file": lambda: open(new, "w"),
    "look at a file": lambda: os.stat(there),
    "list a folder": lambda: os.listdir("/"),
    "remove a file": lambda: os.unlink(there),
    "connect": lambda: socket.socket(socket.AF_INET),
    "connect by IPv6": lambda: socket.socket(socket.AF_INET6),
    "connect on this machine": lambda: socket.socket(socket.AF_UNIX),
    "make a pair of sockets": socket.socketpair,
    "become a program": lambda: os.execv(sys.executable, ["python", "-c", ""]),
    "start a program": lambda: subprocess.run(["true"]),
    "start a program by a shell": lambda: subprocess.run("true", shell=True),
    "fork": os.fork,
    "see its parent": lambda: os.kill(os.getppid(), 0),
    "end itself by a signal": lambda: os.kill(os.getpid(), 9),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except PermissionError:
        continue
    print(name)
"""
    assert inside(code, tmp_path / "there", tmp_path / "new") == ""
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_every_system_call_but_those_listed_is_refused() -> None:
    """ptrace, mount, io_uring, and those that this kernel is the first to have; also by the
    numbers of x32."""
    code = f"""
import ctypes, errno, platform
from alexnet.sandbox import ALLOWED, CLONE, CLONE3, MACHINES
column, _ = MACHINES[platform.machine()]
listed = {{numbers[column] for numbers in (*ALLOWED.values(), CLONE, CLONE3)}}
libc = ctypes.CDLL(None, use_errno=True)
enter()
numbers = [*({{*range({SYSTEM_CALLS})}} - listed - {PROBES}), *range(2**30, 2**30 + {SYSTEM_CALLS})]
for number in numbers:
    if libc.syscall(number, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != errno.EPERM:
        print(number)
"""
    assert inside(code) == ""


def test_threads_that_were_there_are_inside_too() -> None:
    code = """
import os, threading
entered = threading.Event()
def attempt():
    entered.wait()
    try:
        os.fork()
    except PermissionError:
        print("refused")
thread = threading.Thread(target=attempt)
thread.start()
enter()
entered.set()
thread.join()
thread = threading.Thread(target=attempt)
thread.start()
thread.join()
"""
    assert inside(code) == "refused\n" * 2


def test_numbers_of_system_calls_are_those_of_the_kernel() -> None:
    headers = {
        "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        "aarch64": Path("/usr/include/asm-generic/unistd.h"),
    }
    if not all(path.exists() for path in headers.values()):
        pytest.skip("the kernel's headers are not installed")
    calls = sandbox.ALLOWED | {
        "clone": sandbox.CLONE, "clone3": sandbox.CLONE3, "seccomp": sandbox.SECCOMP,
    }  # fmt: skip
    for machine, path in headers.items():
        lines = [line.split()[:3] for line in path.read_text().splitlines()]
        known = {line[1]: line[2] for line in lines if line[:1] == ["#define"] and line[2:]}
        for name, numbers in calls.items():
            number = known.get(f"__NR3264_{name}") or known[f"__NR_{name}"]
            assert (machine, name, number) == (
                machine, name, str(numbers[sandbox.MACHINES[machine][0]])
            )  # fmt: skip


def decoded(files: list[bytes], *, door: str) -> list[list[str]]:
    """What becomes of files in a process that has loaded no more than a decoder has, in words."""
    code = f"""
import hashlib, json, pickle, sys
from alexnet.pixels import ImageError, whole_image
files = pickle.load(sys.stdin.buffer)
{door}
for data in files:
    try:
        print(json.dumps(["decoded", hashlib.sha256(whole_image(data, 64)).hexdigest()]))
    except ImageError as error:
        print(json.dumps([error.kind, str(error)]))
"""
    return [json.loads(line) for line in inside(code, given=pickle.dumps(files)).splitlines()]


def test_each_format_is_decoded_as_outside() -> None:
    files = [encoded(Image.new("LAB", (96, 64), (90, 140, 100)), "TIFF")]
    for name in WRITTEN:
        for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"):
            with suppress(OSError, ValueError):  # there is no such conversion, or no such file
                files.append(encoded(slope().convert(mode), name))
    found = decoded(files, door="enter()")
    assert found == decoded(files, door="")
    assert {kind for kind, _ in found} == {"decoded"}


def test_files_that_break_decoders_are_refused_as_outside(test_data: Path) -> None:
    paths = sorted((test_data / "nasty-images").iterdir())
    files = [path.read_bytes() for path in paths]
    assert decoded(files, door="enter()") == decoded(files, door="")
