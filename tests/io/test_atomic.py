"""Files that appear whole or not at all, however often their program is told to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hzcli.io import atomic

# Ctrl-C while a file is written, and again just when its rest would be removed.
TWICE = """
import sys
from pathlib import Path
from hzcli.io import atomic

real = Path.unlink
def disturbed(self, missing_ok=False):
    Path.unlink = real
    raise KeyboardInterrupt

with atomic.beside(Path("result.txt")) as part:
    part.write_text("half")
    Path.unlink = disturbed
    raise KeyboardInterrupt
"""


def test_a_second_ctrl_c_leaves_no_half_file(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], cwd=tmp_path, stderr=subprocess.PIPE)
    assert done.returncode != 0 and b"KeyboardInterrupt" in done.stderr
    assert [*tmp_path.iterdir()] == []


def test_nothing_is_remembered_of_what_is_done(tmp_path: Path) -> None:
    known = set(atomic._begun)
    atomic.write_text(tmp_path / "a.txt", "whole")
    with pytest.raises(ZeroDivisionError), atomic.beside(tmp_path / "b.txt") as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert atomic._begun == known
