"""ExifTool as a companion: what it makes of results, and what becomes of a bad companion."""

from __future__ import annotations

import json
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import made_metadata as made
import pytest

from hzcli.core.window import Size
from hzcli.io.metadata import exiftool
from hzcli.io.metadata.exiftool import Exiftool, ExiftoolError
from hzcli.io.metadata.ladder import Ladder
from hzcli.io.metadata.policies import Edit

SIZE = Size(64, 48)
EDIT = Edit("hz 1.0", {"model": "hinet"}, datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc))
KINDS = ("jpeg", "png", "webp", "jxl", "tiff")

needs_exiftool = pytest.mark.skipif(not exiftool.available(), reason="exiftool is not installed")
posix = pytest.mark.skipif(sys.platform == "win32", reason="scripts need a shebang")


@pytest.fixture(scope="module")
def tool() -> Iterator[Exiftool]:
    with Exiftool(timeout_s=60) as running:
        yield running


def _told(tool: Exiftool, path: Path) -> dict[str, object]:
    """What ExifTool says of a file, by group and name."""
    with exiftool.readable(path) as name:
        text = tool.execute(["-j", "-G1", "-n", str(name)]).text
    return json.loads(text[text.index("[{") :])[0]  # Perl's own warnings come first


def _finished(
    tool: Exiftool | None, source: Path, kind: str, policy: str = "all", big: bool = False
) -> Path:
    path = source.with_name(f"result.{kind}")
    ladder = Ladder(policy, program=None)
    ladder.tool = tool  # one for all tests: to start it takes a second
    job = ladder.job(source, path, SIZE, EDIT)
    expected = made.result(path, kind, job.carried, big)
    job.finish(path)
    job.settle()
    assert kind == "jpeg" or (made.pixels_of(path, kind) == expected).all()
    assert job.notes == []
    assert ladder.warning is None or tool is None
    return path


_DESCRIBED = ("IFD0", "ExifIFD", "GPS", "InteropIFD", "XMP-dc", "XMP-my", "XMP-exif", "IPTC")
_CHANGED = {
    "IFD0:Orientation": 1,
    "IFD0:Software": "hz 1.0",
    "IFD0:ModifyDate": "2026:01:31 12:00:00",
    "ExifIFD:ExifImageWidth": 48,
    "ExifIFD:ExifImageHeight": 64,
}
# Where the writer of a TIFF file has the say, or the container has no place.
_RESOLUTION = {"IFD0:XResolution", "IFD0:YResolution", "IFD0:ResolutionUnit"}


@needs_exiftool
@pytest.mark.parametrize("helped", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_the_source_is_accounted_for(
    tool: Exiftool, tmp_path: Path, kind: str, helped: bool
) -> None:
    """With and without the companion: each value as before, or one that hz must change."""
    source = made.photo(tmp_path / "photo.jpg")
    result = _finished(tool if helped else None, source, kind)

    before, after = _told(tool, source), _told(tool, result)

    expected = {k: v for k, v in before.items() if k.split(":")[0] in _DESCRIBED} | _CHANGED
    if kind == "tiff":
        expected = {k: v for k, v in expected.items() if k not in _RESOLUTION}
    if kind in ("webp", "jxl"):
        expected = {k: v for k, v in expected.items() if not k.startswith("IPTC:")}
        assert after["XMP-dc:Title"] == "Title"
    assert {k: after.get(k) for k in expected} == expected
    assert [k for k in after if "Thumbnail" in k or k.startswith("IFD1")] == []
    assert after["XMP-xmpMM:HistoryAction"] == ["saved", "harmonised"]


@needs_exiftool
def test_bigtiff_is_complete_without_being_written_by_exiftool(
    tool: Exiftool, tmp_path: Path
) -> None:
    after = _told(tool, _finished(tool, made.photo(tmp_path / "photo.jpg"), "tiff", big=True))

    found = {key.split(":")[-1]: value for key, value in after.items()}
    assert found["FileType"] == "BTF"
    assert found["LensModel"] == "HZ 50mm F1.8" and found["GPSLatitude"]


@needs_exiftool
@pytest.mark.parametrize("kind", KINDS)
def test_maker_notes_that_count_from_the_start_stay_readable(
    tool: Exiftool, tmp_path: Path, kind: str
) -> None:
    """A Canon directory holds positions: they must be true after the move."""
    source = made.photo(tmp_path / "photo.jpg", made.exif_block("<", "canon"))

    after = _told(tool, _finished(tool, source, kind))

    assert after["Canon:OwnerName"] == made.OWNER
    assert "ExifTool:Warning" not in after or "offset" not in str(after["ExifTool:Warning"])


@posix
@pytest.mark.parametrize(
    ("note", "kind", "asked"),
    [
        (b"Nikon\0\2\x10\0\0MM\0*\0\0\0\x08", "tiff", False),
        (made.OPAQUE, "tiff", True),
        (made.OPAQUE, "jpeg", False),
    ],
    ids=["nikon", "other", "in place"],
)
def test_a_file_is_written_twice_only_where_that_helps(
    tmp_path: Path, note: bytes, kind: str, asked: bool
) -> None:
    """Maker notes that count from their own start, or that were not moved, need no mending."""
    block = made.exif_block().replace(made.OPAQUE, note.ljust(len(made.OPAQUE), b"\0"))
    with Ladder("all", _script(tmp_path, _BABBLES), timeout_s=5) as ladder:
        path = tmp_path / "result"
        job = ladder.job(made.photo(tmp_path / "photo.jpg", block), path, SIZE, EDIT)
        made.result(path, kind, job.carried)
        job.finish(path)

    assert bool(job.notes) == asked


@needs_exiftool
@pytest.mark.parametrize("helped", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_safe_is_safe_on_each_rung(tool: Exiftool, tmp_path: Path, kind: str, helped: bool) -> None:
    source = made.photo(tmp_path / "photo.jpg", made.exif_block("<", "canon"))

    after = _told(tool, _finished(tool if helped else None, source, kind, "safe"))

    said = json.dumps(after)
    words = ("GPSL", "SerialNumber", "OwnerName", "HostComputer", "PersonInImage", "Region")
    assert [word for word in words if word in said] == []
    assert after["ExifIFD:LensModel"] == "HZ 50mm F1.8"


@needs_exiftool
def test_what_only_exiftool_can_read_is_copied_by_it(tool: Exiftool, tmp_path: Path) -> None:
    """A packet that no XML parser takes: ExifTool does, and the history stays."""
    source = made.photo(tmp_path / "photo.jpg")
    source.write_bytes(source.read_bytes().replace(b"<?xpacket end", b"<broken end"))
    ladder = Ladder("all", program=None)
    ladder.tool = tool
    path = tmp_path / "result.jpg"
    job = ladder.job(source, path, SIZE, EDIT)
    made.result(path, "jpeg", job.carried)
    job.finish(path)

    after = _told(tool, path)

    assert "XMP left out" in job.notes[0]
    assert after["XMP-xmpMM:HistoryAction"] == "harmonised"
    assert after["XMP-dc:Subject"] == ["a", "b"]
    assert after["XMP-xmp:CreatorTool"] == "hz 1.0"


@needs_exiftool
@pytest.mark.parametrize(
    "name", ["-all=.jpg", "@args.jpg", "é ü 写真.jpg", " %d %f.jpg", "#a $b `c`.jpg", "a;b&c.jpg"]
)
def test_odd_names_are_names(
    tool: Exiftool, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = made.photo(Path(name), made.exif_block("<", "canon"))

    after = _told(tool, _finished(tool, source, "tiff"))

    assert after["Canon:OwnerName"] == made.OWNER


@needs_exiftool
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_line_break_in_a_name_is_no_new_argument(tool: Exiftool, tmp_path: Path) -> None:
    source = made.photo(tmp_path / "a\n-all=\n.jpg", made.exif_block("<", "canon"))
    before = source.read_bytes()

    after = _told(tool, _finished(tool, source, "tiff"))

    assert after["Canon:OwnerName"] == made.OWNER
    assert source.read_bytes() == before
    with pytest.raises(ExiftoolError, match="cannot be passed on"):
        tool.execute(["-ver", exiftool.file_name(source)])


@needs_exiftool
def test_one_process_serves_many_commands(tool: Exiftool) -> None:
    tool.execute(["-ver"])
    first = tool._process

    for _ in range(5):
        assert float(tool.execute(["-ver"]).text) > 10

    assert tool._process is first


@needs_exiftool
def test_a_killed_process_is_replaced(tool: Exiftool) -> None:
    tool.execute(["-ver"])
    assert tool._process is not None
    tool._process.kill()
    tool._process.wait()

    assert float(tool.execute(["-ver"]).text) > 10


@posix
def test_a_process_that_dies_at_work_is_given_another_try(tmp_path: Path) -> None:
    """As where Ctrl-C ends it while a result is being finished."""
    dies = f"import pathlib, sys\nonce = pathlib.Path({str(tmp_path / 'once')!r})\n"
    dies += "if not once.exists():\n once.touch()\n sys.stdin.readline()\n sys.exit(1)\n"
    answers = "for line in sys.stdin:\n"
    answers += " if line.startswith('-execute'): print('{ready' + line[8:-1] + '}', flush=True)\n"
    with Exiftool(_script(tmp_path, dies + answers), timeout_s=20) as running:
        assert running.execute(["-ver"]).text == ""
    assert (tmp_path / "once").exists()


@needs_exiftool
def test_an_error_is_raised_and_the_process_goes_on(tool: Exiftool, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no picture")

    with pytest.raises(ExiftoolError, match=r"[Nn]ot a valid|[Uu]nknown|format"):
        tool.execute(["-Artist=x", "-overwrite_original", str(tmp_path / "a.jpg")])
    assert float(tool.execute(["-ver"]).text) > 10


@needs_exiftool
def test_closing_ends_the_process() -> None:
    with Exiftool() as running:
        running.execute(["-ver"])
        process = running._process
    assert process is not None and process.poll() is not None


def _script(folder: Path, text: str) -> str:
    path = folder / "companion"
    path.write_text(f"#!{sys.executable}\n{text}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


_HANGS = "import time\nwhile True: time.sleep(1)\n"
_DIES = "import sys\nsys.stdin.readline()\nsys.exit(3)\n"
_BABBLES = "import sys\nfor line in sys.stdin:\n print('Error: all is wrong', flush=True)\n"
_BABBLES += " if line.startswith('-execute'): print('{ready' + line[8:-1] + '}', flush=True)\n"


@posix
@pytest.mark.parametrize(
    ("text", "said"),
    [(_HANGS, "did not answer"), (_DIES, "ended"), (_BABBLES, "all is wrong")],
    ids=["hangs", "dies", "errs"],
)
def test_a_bad_companion_costs_no_picture(tmp_path: Path, text: str, said: str) -> None:
    """The floor stands, a note says what happened, and no time is lost beyond the limit."""
    source = made.photo(tmp_path / "photo.jpg", made.exif_block("<", "canon"))
    path = tmp_path / "result.tif"
    start = time.monotonic()

    with Ladder("all", _script(tmp_path, text), timeout_s=1) as ladder:
        job = ladder.job(source, path, SIZE, EDIT)
        made.result(path, "tiff", job.carried)
        job.finish(path)
        assert job.settle() is None

    assert time.monotonic() - start < 10
    assert len(job.notes) == 1 and said in job.notes[0]
    from hzcli.io.metadata import exif

    assert exif.read_tiff(path).exif[42036] == (2, b"HZ 50mm F1.8")


def test_a_missing_program_is_the_floor(tmp_path: Path) -> None:
    assert shutil.which("no-such-exiftool") is None
    assert Ladder("all", "no-such-exiftool").tool is None
    with Exiftool("no-such-exiftool") as tool, pytest.raises(ExiftoolError, match="started"):
        tool.execute(["-ver"])
