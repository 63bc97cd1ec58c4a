"""Pictures out, whole or not at all: whatever happens, nothing half-written gets a name."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from made_results import NOTHING, coming, read_back, resolved

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io.writers import open_writer
from hzcli.io.writers.held import HeldWriter

EVERY = ["tiff", "png", "jpeg", "webp", "exr", "jxl"]


def _open(path, form, size=None, **rest):
    size = size or Size(100, 30)
    if form in ("exr", "jxl"):
        pytest.importorskip("OpenImageIO")
    return open_writer(path, size, resolved(form), meta=NOTHING, **rest)


def _rows(form, count):
    return coming("32f" if form == "exr" else "16", count, 30)


@pytest.mark.parametrize("form", EVERY)
@pytest.mark.parametrize("rows", [0, 40, 100])
@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt])
def test_trouble_leaves_nothing(tmp_path, form, rows, trouble):
    path = tmp_path / "out" / f"a.{form}"
    with pytest.raises(trouble), _open(path, form) as writer:
        writer.write(_rows(form, rows))
        raise trouble
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("form", EVERY)
def test_an_unfinished_picture_gets_no_name(tmp_path, form):
    writer = _open(tmp_path / "a", form)
    writer.write(_rows(form, 99))
    with pytest.raises(ValueError, match="99 of 100"):
        writer.close()
    assert list(tmp_path.iterdir()) == []
    writer.abort()
    writer.close()


@pytest.mark.parametrize("form", EVERY)
def test_finish_sees_the_complete_file_before_it_has_its_name(tmp_path, form):
    path = tmp_path / "a"
    seen = []

    def finish(temporary: Path) -> None:
        assert not path.exists()
        seen.append(temporary.read_bytes())

    with _open(path, form, finish=finish) as writer:
        writer.write(_rows(form, 100))
    assert seen == [path.read_bytes()]
    read_back(path, form)


@pytest.mark.parametrize("form", EVERY)
def test_a_failing_finish_leaves_nothing(tmp_path, form):
    def finish(temporary: Path) -> None:
        raise PictureError("no")

    with pytest.raises(PictureError), _open(tmp_path / "a", form, finish=finish) as writer:
        writer.write(_rows(form, 100))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", EVERY)
def test_an_existing_file_is_kept_unless_told(tmp_path, form):
    path = tmp_path / "a"
    path.write_text("mine")
    with pytest.raises(PictureError, match="exists already"):
        _open(path, form)
    assert path.read_text() == "mine"
    with _open(path, form, overwrite=True) as writer:
        writer.write(_rows(form, 100))
    read_back(path, form)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", EVERY)
def test_the_same_rows_give_the_same_bytes(tmp_path, form):
    for name in "ab":
        with _open(tmp_path / name, form, software="hz 1") as writer:
            writer.write(_rows(form, 100))
        time.sleep(1.1 if form == "exr" and name == "a" else 0)  # what states its second shows it
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("form", EVERY)
def test_wrong_rows_are_a_programming_error(tmp_path, form):
    with _open(tmp_path / "a", form, size=Size(2, 3)) as writer:
        right = np.zeros((2, 3, 3), np.float32 if form == "exr" else np.uint16)
        for rows, alpha in (
            (right.astype(np.float64), None),
            (right[:, :2], None),
            (np.concatenate([right, right]), None),
            (right, right[..., 0]),
        ):
            with pytest.raises(ValueError):
                writer.write(rows, alpha)
        writer.write(right)


STOPPED = """
import signal, sys, time
from pathlib import Path
import numpy as np
from hzcli.core.window import Size
from hzcli.io.meta import Header, Meta
from hzcli.io.writers import OutputOptions, open_writer, resolve

def stop(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, stop)
path, form = Path(sys.argv[1]), sys.argv[2]
head = Header(path, Size(2000, 500), 16, "rgb", 1, "tiff")
with open_writer(path, Size(2000, 500), resolve(OutputOptions(form), head), meta=Meta()) as writer:
    writer.write(np.zeros((1000, 500, 3), np.float32 if form == "exr" else np.uint16))
    print("half", flush=True)
    while True:  # a signal that came before a pause would leave it waiting for another
        time.sleep(0.05)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("form", ["tiff", "png", "exr"])
def test_a_stopped_process_leaves_nothing(tmp_path, form):
    if form == "exr":
        pytest.importorskip("OpenImageIO")
    command = [sys.executable, "-c", STOPPED, str(tmp_path / "a"), form]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout.readline() == "half\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGTERM)
        process.wait(20)
    assert list(tmp_path.iterdir()) == []


def test_pictures_beyond_the_budget_are_held_on_disk(tmp_path):
    rows = coming("16")
    with HeldWriter(
        tmp_path / "a.png", Size(*rows.shape[:2]), NOTHING, format="png", held_bytes=0
    ) as writer:
        assert isinstance(writer._held, np.memmap)
        writer.write(rows)
    assert np.array_equal(imagecodecs.png_decode((tmp_path / "a.png").read_bytes()), rows)


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device")])
def test_no_room_to_hold_a_picture_is_told(tmp_path, monkeypatch, trouble):
    def full(*_args, **_options):
        raise trouble

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    with pytest.raises(PictureError, match="No space left"):
        HeldWriter(tmp_path / "a.png", Size(9, 9), NOTHING, format="png", held_bytes=0)
    assert list(tmp_path.iterdir()) == []
