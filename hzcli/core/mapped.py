"""Memory of libraries that have done their work.

A library that compiles is read into memory as it runs, some 50 MB of it, and is not needed again
until the next kernel is made. Its pages are as in the file, so they may go: the system brings them
back when they are wanted.
"""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

SMAPS = Path("/proc/self/smaps")
_HEAD = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$", re.M)
_DONTNEED = 4  # of madvise, on Linux


def let_go(library: str) -> int:
    """Drop what is in memory of the code of a library, where the system can (Linux).

    Args:
        library: its file's name, without what follows the first dot.

    Returns:
        Bytes of the parts that were dropped; 0 where none could be.
    """
    if not sys.platform.startswith("linux"):
        return 0
    try:
        parts = _unchanged(SMAPS.read_text(errors="replace"), library)
        drop = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return 0
    drop.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return sum(stop - at for at, stop in parts if not drop(at, stop - at, _DONTNEED))


def _unchanged(smaps: str, library: str) -> list[tuple[int, int]]:
    """Where code of a library lies that is as in its file: no page of it was written to."""
    heads = list(_HEAD.finditer(smaps))
    ends = [head.start() for head in heads[1:]] + [len(smaps)]
    found = []
    for head, end in zip(heads, ends, strict=True):
        start, stop, rights, path = head.groups()
        own = Path(path).name.split(".")[0] == library and rights == "r-xp"
        if own and re.search(r"^Anonymous: +0 kB$", smaps[head.end() : end], re.M):
            found.append((int(start, 16), int(stop, 16)))
    return found
