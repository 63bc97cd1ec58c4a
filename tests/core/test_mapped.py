"""Code of a library leaves memory, and comes back when it is called."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hzcli.core import mapped

SMAPS = """\
7f00-8f00 r--p 00000000 fe:00 11 /lib/libone.so.1
Rss: 4 kB
Anonymous: 0 kB
8f00-9f00 r-xp 00001000 fe:00 11 /lib/libone.so.1
Rss: 4 kB
Anonymous:          0 kB
9f00-af00 r-xp 00001000 fe:00 11 /lib/libone.so.1
Rss: 4 kB
Anonymous:          4 kB
af00-bf00 r--p 00002000 fe:00 11 /lib/libone.so.1
Rss: 4 kB
Anonymous:          0 kB
bf00-cf00 r-xp 00001000 fe:00 12 /lib/a folder/libone.so
Rss: 4 kB
Anonymous:          0 kB
cf00-df00 r-xp 00000000 fe:00 13 /lib/libonemore.so
Rss: 4 kB
Anonymous:          0 kB
df00-ef00 rwxp 00000000 00:00 0
Rss: 4 kB
Anonymous:          0 kB
"""


def test_only_code_that_is_as_in_its_file_is_chosen():
    """Not its tables, which the loader has written to, and not what a debugger has changed."""
    assert mapped._unchanged(SMAPS, "libone") == [(0x8F00, 0x9F00), (0xBF00, 0xCF00)]


def test_a_system_without_such_a_list_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "SMAPS", tmp_path / "none")
    assert mapped.let_go("libone") == 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no list of what is in memory")
def test_a_librarys_code_goes_and_works_on():
    binding = pytest.importorskip("llvmlite.binding")
    assembly = "define i32 @f() { ret i32 7 }"
    assert "ret i32 7" in str(binding.parse_assembly(assembly))

    def held() -> int:
        text = Path("/proc/self/smaps").read_text(errors="replace")
        heads = list(mapped._HEAD.finditer(text))
        ends = [head.start() for head in heads[1:]] + [len(text)]
        places = mapped._unchanged(text, "libllvmlite")
        return sum(
            int(text[head.end() : end].split("Rss:")[1].split()[0])
            for head, end in zip(heads, ends, strict=True)
            if (int(head[1], 16), int(head[2], 16)) in places
        )

    before = held()
    assert before > 0
    assert mapped.let_go("libllvmlite") > 0
    assert held() < before / 10
    assert "ret i32 7" in str(binding.parse_assembly(assembly))
