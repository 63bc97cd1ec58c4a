"""What is read, what a result is given, and what of it is where an outside reader looks."""

from __future__ import annotations

import io
import struct
import zlib
from datetime import datetime, timezone
from pathlib import Path
from xml.etree import ElementTree

import made_metadata as made
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hzcli.core.window import Size
from hzcli.io.metadata import exif
from hzcli.io.metadata.blocks import blocks
from hzcli.io.metadata.embed import Carried, embed
from hzcli.io.metadata.ladder import Ladder
from hzcli.io.metadata.policies import Edit, carried, summary

SIZE = Size(64, 48)  # of the photo turned upright
WHEN = datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc)
EDIT = Edit("hz 1.0", {"model": "hinet", "strength": 0.8}, WHEN)
STEV = "{http://ns.adobe.com/xap/1.0/sType/ResourceEvent#}"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return made.photo(tmp_path / "photo.jpg")


def _finished(source: Path, kind: str, policy: str = "all", big: bool = False, **known) -> Path:
    """A result of `source` in the folder beside it, without ExifTool."""
    path = source.with_name(f"result.{kind}")
    with Ladder(policy, program=None) as ladder:
        job = ladder.job(source, path, SIZE, known.pop("edit", EDIT), **known)
        expected = made.result(path, kind, job.carried, big)
        job.finish(path)
        job.settle()
    assert (made.pixels_of(path, kind) == expected).all() or kind == "jpeg"
    assert job.notes == []
    return path


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


# Reading


def test_a_jpeg_gives_its_blocks_byte_for_byte(photo: Path) -> None:
    found = blocks(photo)

    assert (found.exif, found.xmp) == (made.exif_block(), made.XMP)
    assert (found.iptc, found.photoshop) == (made.IPTC, made.RESOURCES)
    assert found.verbatim and found.notes == ()


@pytest.mark.parametrize("kind", ["png", "webp", "avif"])
def test_other_containers_give_what_pillow_put_in(tmp_path: Path, kind: str) -> None:
    """Pillow is the writer; libwebp, libpng and libavif place the blocks."""
    from PIL import features

    if kind == "avif" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    path = tmp_path / f"a.{kind}"
    options = {"pnginfo": None} if kind == "png" else {"xmp": made.XMP}
    if kind == "png":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", made.XMP.decode(), zip=True)
    block = made.exif_block(orientation=1)
    Image.new("RGB", (64, 48)).save(path, exif=b"Exif\0\0" + block, **options)

    found = blocks(path)

    assert exif.read(found.exif).gps == exif.read(block).gps
    assert found.xmp == made.XMP


def test_raw_profiles_of_a_png_are_read(tmp_path: Path) -> None:
    """ImageMagick's way: a name, a length, hexadecimals of 72 a line."""

    def text(name: bytes, data: bytes) -> bytes:
        digits = data.hex().encode()
        lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
        body = b"\n%s\n%8d\n" % (name, len(data)) + b"\n".join(lines) + b"\n"
        body = b"Raw profile type " + name + b"\0\0" + zlib.compress(body)
        check = struct.pack(">I", zlib.crc32(b"zTXt" + body))
        return struct.pack(">I", len(body)) + b"zTXt" + body + check

    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    data = path.read_bytes()
    block = b"Exif\0\0" + made.exif_block()
    path.write_bytes(data[:33] + text(b"exif", block) + text(b"iptc", made.RESOURCES) + data[33:])

    found = blocks(path)

    assert found.exif == made.exif_block()
    assert found.iptc == made.IPTC


def test_extended_xmp_is_merged_in(tmp_path: Path) -> None:
    """XMP part 3, section 1.1.3.1: the main packet names the digest of the rest."""
    name = "A" * 32
    main = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="%s"/></rdf:RDF></x:xmpmeta>'
    )
    rest = made.XMP.split(b"?>", 1)[1].rsplit(b"<?", 1)[0].strip()
    half = len(rest) // 2
    mark = b"http://ns.adobe.com/xmp/extension/\0" + name.encode()
    parts = [
        made.segment(0xE1, mark + struct.pack(">II", len(rest), at) + rest[at : at + half + 1])
        for at in (0, half + 1)
    ]
    held = io.BytesIO()
    Image.new("RGB", (8, 8)).save(held, "JPEG", xmp=(main % name).encode())
    data = held.getvalue()
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + parts[1] + parts[0] + data[2:])

    found = blocks(path)

    assert b"Bob Seen" in found.xmp
    assert found.notes == ()


def test_a_psd_gives_what_its_resources_hold(tmp_path: Path) -> None:
    block = made.exif_block()
    resources = made.RESOURCES + made.resource(0x0422, block) + made.resource(0x0424, made.XMP)
    path = tmp_path / "a.psd"
    head = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, 4, 4, 8, 3) + struct.pack(">I", 0)
    path.write_bytes(head + struct.pack(">I", len(resources)) + resources + b"\0" * 60)

    found = blocks(path)

    assert (found.exif, found.xmp, found.iptc) == (block, made.XMP, made.IPTC)


def test_heic_gives_its_blocks_byte_for_byte(tmp_path: Path) -> None:
    """libheif is the writer."""
    heif = pytest.importorskip("pillow_heif")
    path = tmp_path / "a.heic"
    picture = heif.from_pillow(Image.new("RGB", (64, 48)))
    picture.save(path, exif=b"Exif\0\0" + made.exif_block(), xmp=made.XMP)

    found = blocks(path)

    assert (found.exif, found.xmp) == (made.exif_block(), made.XMP)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_gives_directories_that_the_next_result_carries(
    photo: Path, tmp_path: Path, big: bool, order: str
) -> None:
    """From JPEG into TIFF and BigTIFF, and out of it again: the same values."""
    made.photo(photo, made.exif_block(order))
    path = _finished(photo, "tiff", big=big)

    found = blocks(path)

    before, after = exif.read(made.exif_block()), exif.read(found.exif)
    assert after.gps == before.gps and after.interop == before.interop
    moved = {exif.PIXEL_X, exif.PIXEL_Y}
    assert {c: v for c, v in after.exif.items() if c not in moved} == {
        c: v for c, v in before.exif.items() if c not in moved
    }
    assert found.iptc == made.IPTC and found.photoshop == made.PATH


def test_an_exr_header_speaks_as_exif(tmp_path: Path) -> None:
    def attribute(name: bytes, kind: bytes, body: bytes) -> bytes:
        return name + b"\0" + kind + b"\0" + struct.pack("<i", len(body)) + body

    path = tmp_path / "a.exr"
    path.write_bytes(
        b"v/1\x01\x02\0\0\0"
        + attribute(b"cameraModel", b"string", b"Alexa")
        + attribute(b"expTime", b"float", struct.pack("<f", 0.02))
        + attribute(b"latitude", b"float", struct.pack("<f", -33.5))
        + b"\0"
    )

    found = exif.read(blocks(path).exif)

    assert found.zeroth[272] == (2, b"Alexa")
    assert float(found.exif[33434][1]) == pytest.approx(0.02, rel=1e-6)
    assert found.gps[1] == (2, b"S") and float(found.gps[2][1][0]) == 33.5


@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "webp", "jxl"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_damage_costs_blocks_but_never_raises(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    """Any bytes of the first kilobytes changed, or the file cut anywhere."""
    folder = tmp_path_factory.getbasetemp() / f"damage-{kind}"
    if not folder.exists():
        folder.mkdir()
        _finished(made.photo(folder / "photo.jpg"), kind)
    whole = bytearray((folder / f"result.{kind}").read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(whole), 6000) - 1))
        whole[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    path = folder / "damaged"
    path.write_bytes(whole[: cut if data.draw(st.booleans()) else None])

    found = blocks(path)

    carried(found, "all", SIZE, EDIT)
    carried(found, "safe", SIZE, EDIT)
    summary(path)


def test_a_broken_block_is_left_out_with_a_note(photo: Path) -> None:
    made.photo(photo, b"II*\0\x08\0\0\0\xff")

    found = blocks(photo)

    assert found.exif is None and found.iptc == made.IPTC
    assert len(found.notes) == 1 and found.notes[0].startswith("EXIF block left out")


def test_xmp_with_entities_is_left_out(tmp_path: Path) -> None:
    """A document type could make a packet grow without end."""
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&a;</x:xmpmeta>'
    path = tmp_path / "a.jpg"
    Image.new("RGB", (8, 8)).save(path, xmp=bomb)

    assert blocks(path).xmp is None
    assert "document type" in blocks(path).notes[0]


# Giving


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
    path = _finished(photo, kind)

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


@pytest.mark.parametrize("big", [False, True])
def test_tifffile_finds_exif_and_gps_in_a_finished_tiff(photo: Path, big: bool) -> None:
    path = _finished(photo, "tiff", big=big)

    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages.first.tags
        assert tiff.is_bigtiff == big
        assert tags[34665].value["DateTimeOriginal"] == "2024:05:06 07:08:09"
        assert tags[34853].value["GPSLatitude"] == (48, 1, 51, 1, 753, 25)
        assert sorted(tags.keys()) == list(tags.keys())
        assert not {*tags.keys()} & {*exif.RESERVED.values()}


def test_exifread_agrees(photo: Path) -> None:
    exifread = pytest.importorskip("exifread")
    for kind in ("jpeg", "tiff", "png"):
        with open(_finished(photo, kind), "rb") as file:
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
    found = blocks(_finished(photo, kind))

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
    data = _finished(photo, kind, "safe").read_bytes()

    assert [word for word in _PERSONAL if word in data] == []
    assert b"Zo\xc3\xab Photographer" in data and b"(c) Zoe" in data
    assert b"HZ 50mm F1.8" in data and b"Paris" in data


@pytest.mark.parametrize("kind", ["jpeg", "webp", "jxl", "tiff"])
def test_all_leaves_each_of_them(photo: Path, kind: str) -> None:
    data = _finished(photo, kind).read_bytes()

    assert [word for word in _PERSONAL if word not in data] == []


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "jxl", "tiff"])
def test_none_leaves_nothing(photo: Path, kind: str) -> None:
    assert blocks(_finished(photo, kind, "none")).xmp is None
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
