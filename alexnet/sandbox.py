"""A process that can compute and answer, and nothing else: for what decodes foreign files.

seccomp refuses every system call that is not listed here, and none of these opens a file or a
connection, or starts or signals a process. What is open stays so. Landlock would only refuse some
of the others once more.
"""

import ctypes
import errno
import platform
import struct
import sys

from alexnet.formats import readable

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""{machine: (its column in ALLOWED, its AUDIT_ARCH_*)}"""
ALLOWED = {
    # what goes in and out
    "read": (0, 63), "write": (1, 64), "writev": (20, 66), "close": (3, 57),
    # memory
    "brk": (12, 214), "mmap": (9, 222), "munmap": (11, 215), "mremap": (25, 216),
    "mprotect": (10, 226), "madvise": (28, 233),
    # threads, which some decoders of AVIF, HEIF and WebP start; and chance
    "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293),
    "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "getpid": (39, 172), "gettid": (186, 178), "getrandom": (318, 278),
    # time, and the process's own signals and end
    "clock_gettime": (228, 113), "clock_nanosleep": (230, 115), "setitimer": (38, 103),
    "restart_syscall": (219, 128), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "sigaltstack": (131, 132), "exit": (60, 93),
    "exit_group": (231, 94),
}  # fmt: skip
"""{system call: its number on each machine}, of <asm/unistd_64.h> and <asm-generic/unistd.h>"""
CLONE, CLONE3, SECCOMP = (56, 220), (435, 435), (317, 277)

CLONE_THREAD = 0x10000
PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER, ALL_THREADS = 1, 1
LOAD, IF_EQUAL, IF_SET, RETURN = 0x20, 0x15, 0x45, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
NUMBER, ARCH, FIRST_ARGUMENT = 0, 4, 16
"""Where `struct seccomp_data` has them."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def available() -> bool:
    """Whether `enter` closes anything here: on Linux, by its kernel, on a machine we know."""
    return _seccomp(None) == errno.EFAULT  # it looked for the program


def enter() -> None:
    """From here on all threads of this process are in the sandbox, for ever. Other system calls
    fail with EPERM. Does nothing where that is not `available`; else raises OSError."""
    if not available():
        return
    # What decoders import late they could not find any more.
    readable()
    from PIL import ImageCms  # noqa: F401

    if ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError("a decoder cannot give up its privileges")
    code = b"".join(struct.pack("=HBBI", *line) for line in _instructions(platform.machine()))
    if error := _seccomp(_Program(len(code) // 8, code)):
        raise OSError(error, "a decoder cannot be confined")


def _seccomp(program: _Program | None) -> int:
    """The error number; 0 for success."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return errno.ENOSYS
    libc = ctypes.CDLL(None, use_errno=True)
    column, _ = MACHINES[platform.machine()]
    address = ctypes.byref(program) if program else None
    failed = libc.syscall(SECCOMP[column], SET_MODE_FILTER, ALL_THREADS, address)
    return failed and (ctypes.get_errno() or errno.EBUSY)


def _instructions(machine: str) -> list[tuple[int, int, int, int]]:
    """Classic BPF: operation, lines to skip where it holds and where it does not, operand."""
    column, arch = MACHINES[machine]
    refuse = RETURN, 0, 0, REFUSE | errno.EPERM
    lines = [
        (LOAD, 0, 0, ARCH), (IF_EQUAL, 1, 0, arch), refuse,
        (LOAD, 0, 0, NUMBER),
        # Its arguments lie where no filter sees them; glibc then takes `clone`.
        (IF_EQUAL, 0, 1, CLONE3[column]), (RETURN, 0, 0, REFUSE | errno.ENOSYS),
        (IF_EQUAL, 0, 4, CLONE[column]),
        (LOAD, 0, 0, FIRST_ARGUMENT), (IF_SET, 0, 1, CLONE_THREAD), (RETURN, 0, 0, ALLOW), refuse,
    ]  # fmt: skip
    for numbers in ALLOWED.values():
        lines += [(IF_EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ALLOW)]
    return [*lines, refuse]
