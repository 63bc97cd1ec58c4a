"""Freed memory is kept: pages are faulted in once, not at every step."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

# 64 MB, written to 200 times: 3,276,800 pages of 4 KiB; 6,400 where the system makes them of 2 MiB
# unasked. What else is faulted in is some hundreds.
_STEPS = """
import resource, sys
import numpy
from hzcli.train.heap import keep_freed
if sys.argv[1] == "kept":
    assert keep_freed()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    numpy.full(1 << 26, 1, numpy.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another system's memory")
def test_what_is_freed_is_used_again() -> None:
    faults = {
        how: int(
            subprocess.check_output(
                [sys.executable, "-c", _STEPS, how],
                text=True,
                env=os.environ | {"NUMPY_MADVISE_HUGEPAGE": "0"},
            )
        )
        for how in ("kept", "given back")
    }
    assert faults["kept"] < 0.2 * faults["given back"]
