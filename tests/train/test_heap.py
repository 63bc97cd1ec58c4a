"""Freed memory is kept: pages are faulted in once, not at every step."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Twenty times 128 MB, each written to: 32,768 pages of 4 KiB.
_STEPS = """
import resource, sys
import numpy
from hzcli.train.heap import keep_freed
if sys.argv[1] == "kept":
    assert keep_freed()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    for _ in range(4):
        numpy.full(1 << 25, 1, numpy.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another system's memory")
def test_what_is_freed_is_used_again() -> None:
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", _STEPS, how], text=True))
        for how in ("kept", "given back")
    }
    assert faults["kept"] < 0.2 * faults["given back"]
