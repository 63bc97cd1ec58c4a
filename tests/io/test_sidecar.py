"""Sidecars: opened by an XML parser and by ExifTool."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree

import made_metadata as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hzcli.core.window import Size
from hzcli.io.metadata import ladder as ladders
from hzcli.io.metadata.ladder import Ladder
from hzcli.io.metadata.policies import Edit
from hzcli.io.metadata.sidecar import sidecar_text
from hzcli.io.metadata.xmp import DC, PHOTOSHOP, XMP, Packet

SIZE = Size(64, 48)
EDIT = Edit("hz 1.0", {"model": "hinet"}, datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc))
EXIF = "{http://ns.adobe.com/exif/1.0/}"


def _beside(
    folder: Path, source: Path, kind: str, extension: str = "", **known: object
) -> tuple[Path | None, Ladder]:
    path = folder / f"result.{extension or kind}"
    with Ladder("all", program=None) as ladder:
        job = ladder.job(source, path, SIZE, EDIT, **known)  # type: ignore[arg-type]
        made.result(path, kind, job.carried)
        job.finish(path)
        return job.settle(), ladder


def test_what_exr_cannot_hold_stands_beside_it(tmp_path: Path) -> None:
    """ElementTree's reading: exposure as it was, the place in XMP's form, one warning."""
    path, ladder = _beside(tmp_path, made.photo(tmp_path / "photo.jpg"), "exr")

    assert path == tmp_path / "result.xmp"
    root = ElementTree.parse(path).getroot()
    values = {element.tag: element.text for element in root.iter()}
    assert values[EXIF + "ExposureTime"] == "10/2500"
    assert values[EXIF + "DateTimeOriginal"] == "2024-05-06T07:08:09"
    assert values[EXIF + "PixelXDimension"] == "48"
    assert ladder.warning is not None and "exiftool" in ladder.warning


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "jxl", "tiff"])
def test_containers_with_room_need_no_sidecar(tmp_path: Path, kind: str) -> None:
    path, ladder = _beside(tmp_path, made.photo(tmp_path / "photo.jpg"), kind)

    assert path is None
    # Into TIFF the maker note was moved, which is worth a word.
    assert (ladder.warning is not None) == (kind == "tiff")
    assert [*tmp_path.glob("*.xmp")] == []


def test_a_history_alone_makes_no_sidecar(tmp_path: Path) -> None:
    made.result(tmp_path / "plain.png", "png")

    assert _beside(tmp_path, tmp_path / "plain.png", "exr")[0] is None


def test_somebody_elses_sidecar_is_left_alone(tmp_path: Path) -> None:
    """Whether or not results are replaced: it may hold how a RAW file of that name is developed.
    What the result cannot hold stands in another, then."""
    mine, other = Packet(), tmp_path / "result.exr.xmp"
    mine.set(XMP, "CreatorTool", "Adobe Photoshop Lightroom Classic 13.0")
    source = made.photo(tmp_path / "photo.jpg")
    for text in (b"mine", mine.tobytes()):
        (tmp_path / "result.xmp").write_bytes(text)
        for overwrite, path in ((False, other), (False, None), (True, other)):
            assert _beside(tmp_path, source, "exr", overwrite=overwrite)[0] == path
            assert (tmp_path / "result.xmp").read_bytes() == text
        other.unlink()

    (tmp_path / "result.xmp").unlink()
    for overwrite, name in ((False, "xmp"), (True, "xmp"), (False, "exr.xmp"), (False, None)):
        path = None if name is None else tmp_path / f"result.{name}"
        assert _beside(tmp_path, source, "exr", overwrite=overwrite)[0] == path


@pytest.mark.parametrize("overwrite", [False, True])
def test_results_of_one_name_have_sidecars_of_their_own(tmp_path: Path, overwrite: bool) -> None:
    source, paths = made.photo(tmp_path / "photo.jpg"), []
    for extension in ("sxr", "exr") * (1 + overwrite):
        paths.append(_beside(tmp_path, source, "exr", extension, overwrite=overwrite)[0])
    assert [path.name for path in paths] == ["result.xmp", "result.exr.xmp"] * (1 + overwrite)
    for path, meant in zip(paths, ("SXR", "EXR"), strict=False):
        assert Packet(path.read_bytes()).get(PHOTOSHOP, "SidecarForExtension") == meant


def test_a_sidecar_that_the_disk_refuses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is there already: it is not called a failure for that."""

    def full(*words: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    source = made.photo(tmp_path / "photo.jpg")
    with Ladder("all", program=None) as ladder:
        job = ladder.job(source, tmp_path / "result.exr", SIZE, EDIT)
        made.result(tmp_path / "result.exr", "exr", job.carried)
        job.finish(tmp_path / "result.exr")
        monkeypatch.setattr(ladders.atomic, "write_text", full)
        assert job.settle() is None
    assert job.notes == ["result.xmp could not be written: No space left on device"]


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("order", ["<", ">"])
def test_exiftool_reads_from_the_sidecar_what_it_read_from_the_source(
    tmp_path: Path, order: str
) -> None:
    def told(path: Path) -> dict[str, object]:
        done = subprocess.run(["exiftool", "-j", str(path)], capture_output=True, check=True)
        return json.loads(done.stdout)[0]

    source = made.photo(tmp_path / "photo.jpg", made.exif_block(order))
    # Without XMP of its own, so that every value comes out of EXIF and IPTC.
    path = tmp_path / "a.xmp"
    path.write_text(sidecar_text(made.exif_block(order), None, made.IPTC), encoding="utf-8")

    before, after = told(source), told(path)

    names = ["Make", "Model", "LensModel", "ExposureTime", "FNumber", "ISO", "DateTimeOriginal"]
    names += ["ExposureCompensation", "SerialNumber", "LensSerialNumber", "OwnerName", "City"]
    names += ["GPSLatitude", "GPSLongitude", "LensInfo", "DateCreated", "ColorSpace"]
    assert {name: after.get(name) for name in names} == {name: before[name] for name in names}
    assert (after["FlashFired"], after["FlashMode"]) == (True, "Auto")
    assert (after["Title"], after["Subject"]) == ("Title", ["Schlüssel", "second"])


def test_the_sources_own_xmp_comes_first() -> None:
    text = sidecar_text(made.exif_block(), made.XMP, made.IPTC)

    packet = Packet(text.encode())
    assert packet.get(DC, "subject") == "a"  # not the keywords of IPTC
    assert packet.get("http://example.org/my/", "Custom") == "kept"
    assert packet.get("http://ns.adobe.com/exif/1.0/", "FNumber") == "28/10"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_makes_xml_that_can_be_read(title: str, keyword: str) -> None:
    packet = Packet()
    packet.set(DC, "title", title)
    packet.set_list(DC, "subject", "Bag", [keyword])

    again = Packet(packet.tobytes())

    # XML 1.0 section 2.2 leaves most control characters out; 2.11 makes line ends one.
    allowed = "".join(c for c in title if ord(c) >= 32 or c in "\t\n\r")
    allowed = allowed.replace("\ufffe", "").replace("\uffff", "")
    read = again.get(DC, "title") or ""
    assert read.replace("\r", "\n") == allowed.replace("\r\n", "\n").replace("\r", "\n")
