"""What is read of the metadata in each container, and what damage costs."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import made_metadata as made
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_metadata import EDIT, SIZE
from PIL import Image

from hzcli.io.metadata import exif
from hzcli.io.metadata.blocks import blocks
from hzcli.io.metadata.policies import carried, summary


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
@pytest.mark.parametrize("file_order", ["<", ">"])
def test_a_tiff_gives_directories_that_the_next_result_carries(
    photo: Path, big: bool, order: str, file_order: str
) -> None:
    """From JPEG into TIFF and BigTIFF, and out of it again: the same values."""
    made.photo(photo, made.exif_block(order))
    path = made.finished(photo, "tiff", big=big, order=file_order)

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
        made.finished(made.photo(folder / "photo.jpg"), kind)
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
