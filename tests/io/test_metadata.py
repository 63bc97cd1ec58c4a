"""What a result is given of metadata, and what of it is where an outside reader looks."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import made_metadata as made
import numpy as np
import pytest
import tifffile
from made_metadata import EDIT, SIZE, WHEN
from PIL import Image

from hzcli.io.metadata import exif
from hzcli.io.metadata.blocks import blocks
from hzcli.io.metadata.embed import Carried, embed
from hzcli.io.metadata.ladder import Ladder
from hzcli.io.metadata.policies import Edit, carried, summary

STEV = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"


def _exif_of(path: Path, kind: str) -> Image.Exif:
    """A result's EXIF as Pillow reads it."""
    read = Image.Exif()
    if kind == "jxl":
        read.load(b"Exif\0\0" + (blocks(path).exif or b""))
        return read
    with Image.open(path) as picture:
        read = picture.getexif()
        read.get_ifd(exif.EXIF)
        read.get_ifd(exif.GPS)
    return read


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_keeps_its_bytes_where_they_were(order: str) -> None:
    """All but the first directory, the pointer to it, two dimensions and the thumbnail."""
    block = made.exif_block(order)

    after = exif.corrected(block, SIZE, "hz 1.0", "2026:01:31 12:00:00")

    note = block.index(made.OPAQUE)
    assert after[note : note + len(made.OPAQUE)] == made.OPAQUE
    end = block.index(b"\xff\xd8\xff")
    changed = [at for at in range(8, end) if after[at] != block[at]]
    assert len(changed) <= 4  # 64 x 48 has become 48 x 64: two bytes
    assert b"\xff\xd8\xff" not in after


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "jxl", "tiff"])
def test_each_container_says_upright_in_the_new_size(photo: Path, kind: str) -> None:
    """Pillow's reading: orientation 1, no thumbnail, the rest as the camera said."""
    path = made.finished(photo, kind)

    read = _exif_of(path, kind)
    inner, gps = read.get_ifd(exif.EXIF), read.get_ifd(exif.GPS)
    assert read[exif.ORIENTATION] == 1
    assert (inner[exif.PIXEL_X], inner[exif.PIXEL_Y]) == (48, 64)
    assert read.get_ifd(1) == {}
    assert read[exif.SOFTWARE] == "hz 1.0"
    assert read[exif.DATETIME] == "2026:01:31 12:00:00"
    assert inner[36867] == "2024:05:06 07:08:09"
    assert inner[exif.MAKER_NOTE] == made.OPAQUE
    assert [float(v) for v in gps[2]] == [48, 51, 30.12]
    assert inner[33434] == 1 / 250


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("big", [False, True])
def test_tifffile_finds_exif_and_gps_in_a_finished_tiff(photo: Path, big: bool, order: str) -> None:
    path = made.finished(photo, "tiff", big=big, order=order)

    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages.first.tags
        assert (tiff.is_bigtiff, tiff.byteorder) == (big, order)
        assert tags[34665].value["DateTimeOriginal"] == "2024:05:06 07:08:09"
        assert tags[34853].value["GPSLatitude"] == (48, 1, 51, 1, 753, 25)
        assert sorted(tags.keys()) == list(tags.keys())
        assert not {*tags.keys()} & {*exif.RESERVED.values()}


def test_exifread_agrees(photo: Path) -> None:
    exifread = pytest.importorskip("exifread")
    for kind in ("jpeg", "tiff", "png"):
        with open(made.finished(photo, kind), "rb") as file:
            tags = exifread.process_file(file, details=False)

        assert str(tags["EXIF LensModel"]) == "HZ 50mm F1.8"
        assert str(tags["EXIF ExposureTime"]) == "1/250"
        assert str(tags["GPS GPSLatitude"]) == "[48, 51, 753/25]"


def test_xmp_keeps_its_history_and_gains_an_entry(photo: Path) -> None:
    """Read by ElementTree alone: what was there, in order, then what hz did."""
    given_ = carried(blocks(photo), "all", SIZE, EDIT)

    root = ElementTree.fromstring(given_.xmp)

    events = [
        {**item.attrib, **{child.tag: child.text for child in item}}
        for item in root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")
        if any(STEV in key for key in [*item.attrib, *(child.tag for child in item)])
    ]
    assert [event[STEV + "action"] for event in events] == ["saved", "harmonised"]
    assert events[1][STEV + "when"] == "2026-01-31T12:00:00+00:00"
    assert events[1][STEV + "softwareAgent"] == "hz 1.0"
    assert events[1][STEV + "parameters"] == "model=hinet; strength=0.8"
    description = root[0][0]
    assert description.get("{http://example.org/my/}Custom") == "kept"
    assert root.find(".//{http://ns.adobe.com/tiff/1.0/}Orientation").text == "1"


def test_equal_edits_at_equal_times_give_equal_bytes(photo: Path) -> None:
    assert carried(blocks(photo), "all", SIZE, EDIT) == carried(blocks(photo), "all", SIZE, EDIT)


@pytest.mark.parametrize("policy", ["all", "none"])
def test_the_label_is_given_when_asked_for(photo: Path, policy: str) -> None:
    label = b"compositeWithTrainedAlgorithmicMedia"
    asked = Edit("hz 1.0", {}, WHEN, label_ai=True)

    assert label in carried(blocks(photo), policy, SIZE, asked).xmp
    assert label not in (carried(blocks(photo), policy, SIZE, EDIT).xmp or b"")


def test_a_picture_without_metadata_gains_a_history_only(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 48)).save(path)

    given_ = carried(blocks(path), "all", SIZE, EDIT)

    assert given_.names == {"xmp"} and given_.extratags == ()


def test_a_new_colour_space_takes_the_old_words_away(photo: Path) -> None:
    """ColorSpace and InteropIndex speak of sRGB."""
    after = exif.read(carried(blocks(photo), "all", SIZE, EDIT, profile_changed=True).exif)

    assert exif.COLOUR_SPACE not in after.exif and after.interop == {}
    assert after.exif[exif.MAKER_NOTE] == (7, made.OPAQUE)


def test_photoshop_loses_its_thumbnail_and_keeps_its_paths(photo: Path) -> None:
    assert carried(blocks(photo), "all", SIZE, EDIT).photoshop == made.PATH


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "jxl"])
def test_embedding_twice_is_embedding_once(photo: Path, kind: str) -> None:
    path = photo.with_name(f"a.{kind}")
    made.result(path, kind)
    given_ = carried(blocks(photo), "all", SIZE, EDIT)

    embed(path, given_)
    once = path.read_bytes()
    embed(path, given_)

    assert path.read_bytes() == once


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_iptc_is_found_again_in_jpeg_and_png(photo: Path, kind: str) -> None:
    found = blocks(made.finished(photo, kind))

    assert found.iptc == made.IPTC
    assert found.photoshop == made.resource(0x0404, made.IPTC) + made.PATH


def test_webp_with_alpha_keeps_it_beside_the_blocks(photo: Path) -> None:
    path = photo.with_name("a.webp")
    pixels = np.random.default_rng(0).integers(1, 256, (20, 30, 4), np.uint8)
    Image.fromarray(pixels, "RGBA").save(path, lossless=True, exact=True)

    left = embed(path, Carried(exif=made.exif_block()))
    embed(path, Carried(exif=made.exif_block()))  # now there is an extended header

    assert path.read_bytes()[20] == 0x18  # RFC 9649: alpha and EXIF
    with Image.open(path) as picture:
        assert (np.asarray(picture) == pixels).all()
        assert picture.getexif()[271] == "HzCam"
    assert left == set()


def test_xmp_too_long_for_a_jpeg_is_left_for_a_sidecar(photo: Path) -> None:
    path = photo.with_name("a.jpg")
    made.result(path, "jpeg")

    assert embed(path, Carried(xmp=made.XMP + b" " * 65536)) == {"xmp"}


def test_a_tiff_written_without_room_is_left_as_it_is(photo: Path) -> None:
    """No pointer can be added to a directory that has none: the pixels come first."""
    path = photo.with_name("a.tif")
    made.result(path, "tiff")
    before = path.read_bytes()

    assert embed(path, Carried(exif=made.exif_block())) == {"exif"}
    assert path.read_bytes() == before


# Policies

_PERSONAL = [b"SN-12345", b"LSN-9", b"Jane Owner", b"zoes-laptop", b"Bob Seen", b"HZMAKER"]
_PERSONAL += [b"48,51.502N", b"Latitude"]


@pytest.mark.parametrize("kind", ["jpeg", "webp", "jxl", "tiff"])
def test_safe_leaves_no_person_no_place_and_no_number(photo: Path, kind: str) -> None:
    data = made.finished(photo, kind, "safe").read_bytes()

    assert [word for word in _PERSONAL if word in data] == []
    assert b"Zo\xc3\xab Photographer" in data and b"(c) Zoe" in data
    assert b"HZ 50mm F1.8" in data and b"Paris" in data


@pytest.mark.parametrize("kind", ["jpeg", "webp", "jxl", "tiff"])
def test_all_leaves_each_of_them(photo: Path, kind: str) -> None:
    data = made.finished(photo, kind).read_bytes()

    assert [word for word in _PERSONAL if word not in data] == []


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "jxl", "tiff"])
def test_none_leaves_nothing(photo: Path, kind: str) -> None:
    assert blocks(made.finished(photo, kind, "none")).xmp is None
    assert b"HzCam" not in (photo.with_name(f"result.{kind}")).read_bytes()


def test_an_unknown_policy_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="policy"):
        Ladder("some")


# Summary


def test_summary_says_what_there_is(photo: Path) -> None:
    said = summary(photo, "tiff", program=None)

    assert said.camera == "HzCam Model 1" and said.lens == "HZ 50mm F1.8"
    assert said.taken == "2024:05:06 07:08:09" and said.gps
    assert said.maker_note == len(made.OPAQUE)
    assert said.sizes["iptc"] == len(made.IPTC)
    assert any("maker notes" in word for word in said.lost)


def test_summary_of_a_jpeg_result_loses_nothing(photo: Path) -> None:
    assert summary(photo, "jpeg", program=None).lost == ()


def test_summary_of_no_picture_is_empty(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("nothing")

    assert summary(tmp_path / "a.txt").sizes == {}
    assert summary(tmp_path / "missing").notes != ()
