"""Ctrl-C and SIGTERM: what is finished stays, nothing half-written does, the code is 130."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_shots import Hz, colours, save, shot

from hzcli import cli

RUN = ("run", "shots", "--mask-suffix", "_m", "--device", "cpu")
# The second picture's network never answers.
HANGS = """
import signal, time
# A shell that runs this in the background may have turned SIGINT off.
signal.signal(signal.SIGINT, signal.default_int_handler)
import hzcli.models
from made_shots import Darker

class Hangs(Darker):
    seen = 0
    def predict(self, thumb):
        Hangs.seen += 1
        if Hangs.seen == 2:
            open("hanging", "w").close()
            time.sleep(60)
        return super().predict(thumb)

hzcli.models.load = lambda name, device: Hangs()
from hzcli.cli import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_interrupted_runs_are_clean(
    number: signal.Signals, python: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The first picture is whole, of the second nothing is left, the report tells of both."""
    for name in ("a", "deep/b", "deep/c"):
        shot(tmp_path / f"shots/{name}.png")
    process = python(HANGS, [*RUN, "--json", "-j", "1"])
    try:
        _wait_for(tmp_path / "hanging", process)
        assert list(tmp_path.glob("harmonized/deep/.*")), "the second file was begun"
        assert process.stdout is not None
        first = process.stdout.readline()  # told as it happened, not at the end
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()

    assert process.returncode == 130, err
    left = sorted(path.name for path in (tmp_path / "harmonized").rglob("*"))
    assert left == ["a.tif", "report.csv", "report.json"]
    report = json.loads((tmp_path / "harmonized/report.json").read_text())
    assert report["interrupted"] is True
    assert report["pictures_found"] == 3
    assert [row["status"] for row in report["pictures"]] == ["done"]
    lines = [json.loads(line) for line in (first + out).splitlines()]
    assert [line["event"] for line in lines] == ["picture", "summary"]
    assert lines[-1]["exit_code"] == 130
    assert "interrupted" in err
    assert "Traceback" not in err


# Python has put all signals back to what they were when it takes its last objects apart.
LINGERS = """
import os, time

class Lingers:
    def __del__(self, os=os, sleep=time.sleep):
        os.close(os.open("ending", os.O_CREAT))
        sleep(1)

last = Lingers()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
def test_a_signal_at_the_very_end_changes_nothing(
    python: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """The report is written and the code decided; only Python itself is still at work."""
    for name in ("a", "b"):
        shot(tmp_path / f"shots/{name}.png")
    process = python(LINGERS + HANGS, [*RUN, "-j", "1"])
    try:
        _wait_for(tmp_path / "hanging", process)
        process.send_signal(signal.SIGINT)
        _wait_for(tmp_path / "ending", process)
        for number in (signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()

    assert process.returncode == 130, err
    assert "Traceback" not in err


def _wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until a program under test has made a file."""
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


# Each picture but the first has tiles without an end.
CRAWLS = """
import time
import hzcli.models
from hzcli.core.transform import Reach
from hzcli.engine import plan
from made_shots import Darker

plan.BAND_TARGET = plan.TILE_TARGET = 1

class Slow:
    reach = Reach()
    def apply(self, rgb, mask, window):
        open(f"tile-{window.size.height}", "w").close()
        time.sleep(0.4)
        return rgb * 0.5

class Crawls(Darker):
    def predict(self, thumb):
        return super().predict(thumb) if thumb.full.height == 24 else Slow()

hzcli.models.load = lambda name, device: Crawls()
from hzcli.cli import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
@pytest.mark.parametrize("numbers", [(2,), (2, 2), (15, 2, 2)], ids=["once", "twice", "thrice"])
def test_two_at_once_interrupted_leave_nothing_half_written(
    numbers: tuple[int, ...],
    hz: Hz,
    python: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
) -> None:
    """Both are in the middle. Whoever presses Ctrl-C again does not disturb the tidying up."""
    shot(tmp_path / "shots/a.png")
    for name, height in (("b", 300), ("deep/c", 301), ("deep/d", 302)):
        path = save(tmp_path / f"shots/{name}.png", colours(height, 300))
        y, x = np.mgrid[:height, :300]
        mask = np.where(np.hypot(y - 150, x - 150) < 149, 255, 0).astype(np.uint8)
        save(path.with_name(f"{path.stem}_m.png"), mask)
    process = python(CRAWLS, [*RUN, "--json", "-j", "2"])
    try:
        for height in (300, 301):
            _wait_for(tmp_path / f"tile-{height}", process)
        assert len(list(tmp_path.glob("harmonized/**/.*.part"))) == 2
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.1)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()

    assert process.returncode == 130, err
    left = sorted(path.name for path in (tmp_path / "harmonized").rglob("*"))
    assert left == ["a.tif", "report.csv", "report.json"], out
    assert "Traceback" not in err
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["picture", "summary"]

    again = hz(*RUN, "--json", "-j", "2")
    assert [line["status"] for line in again.lines[:-1]] == ["kept", "done", "done", "done"]


# pybind11 tells whatever ends the start of a library as an ImportError.
BROKEN_OFF = """
try:
    raise KeyboardInterrupt
except KeyboardInterrupt as error:
    raise ImportError("initialization failed") from error
"""


def test_interrupted_while_a_library_starts(
    hz: Hz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not taken for a library that is missing: the run ends, and nothing is made without it."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/PyOpenColorIO.py").write_text(BROKEN_OFF)
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.delitem(sys.modules, "PyOpenColorIO", raising=False)
    shot(tmp_path / "shots/a.png")

    said = hz(*RUN, "-j", "1")

    assert said.exit_code == 130
    assert sorted(path.name for path in (tmp_path / "harmonized").iterdir()) == [
        "report.csv",
        "report.json",
    ]


def test_interrupted_before_a_command_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the options are put together: the same code, and no traceback."""

    def begin() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.signals, "listen", lambda: None)
    monkeypatch.setattr(cli, "app", begin)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 130
