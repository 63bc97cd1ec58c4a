"""Memory that every step of training asks for again.

glibc hands large pieces back to the system as they are freed, and the system clears each page of
the next ones: a tenth of the processor's time. A process that trains keeps them.
"""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt, from malloc.h, and their values.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, (1 << 31) - 1), (_TOP_PAD, 1 << 28))


def keep_freed() -> bool:
    """Have this process keep what it frees, up to 2 GB, and ask for 256 MB at once; whether that
    was possible: with glibc alone."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018
        return all([libc.mallopt(*pair) for pair in _KEPT])
    except (OSError, AttributeError):
        return False
