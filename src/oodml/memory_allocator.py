"""Memory allocation on the CPU: keep freed memory in the process.

By default, glibc returns large freed blocks to the kernel. A network frees and allocates the same
blocks in every forward pass, and the page faults can take more time than the computation.
"""

import ctypes
import functools
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # parameters of `mallopt` (man 3 mallopt)
MMAP_THRESHOLDS = (1 << 30, 1 << 25)
"""Blocks below this size, in bytes, come from the heap; older glibc accepts only the second."""
TRIM_THRESHOLD = (1 << 31) - 1
"""Free memory at the top of the heap, in bytes, that is not returned to the kernel."""
USER_SETTINGS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "DYLD_INSERT_LIBRARIES")


@functools.cache
def keep_freed_memory() -> bool:
    """Configure glibc's allocator for this process, once; return whether it was configured: not on
    other C libraries, or if the environment configures one (`MALLOC_…`, `GLIBC_TUNABLES`, …)."""
    configured = any(name.startswith(USER_SETTINGS) for name in os.environ)
    if configured or not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - only glibc has it
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    accepted = any(mallopt(M_MMAP_THRESHOLD, size) for size in MMAP_THRESHOLDS)
    return bool(accepted and mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD))
