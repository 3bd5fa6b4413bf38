"""What becomes of freed memory."""

import ctypes

OPTIONS = {
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD
    -3: 2**31 - 1,  # M_MMAP_THRESHOLD
    -8: 1,  # M_ARENA_MAX
}
"""Options of glibc's mallopt, by its numbers for them."""


def keep_freed() -> None:
    """Keep freed memory in the process from now on, in one place for all threads.

    glibc would hand every large array of a forward pass back to the kernel and fault it in again.
    To be called before any thread is started. Other C libraries are left as they are.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for option, value in OPTIONS.items():
            mallopt(option, value)
