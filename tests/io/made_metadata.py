"""Metadata made by rule, byte by byte from the specifications, and pictures that carry it."""

from __future__ import annotations

import io
import struct
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from hzcli.core.window import Size
from hzcli.io.metadata.ladder import Ladder
from hzcli.io.metadata.policies import Edit

SIZE = Size(64, 48)  # of the photo turned upright
WHEN = datetime(2026, 1, 31, 12, 0, tzinfo=timezone.utc)
EDIT = Edit("hz 1.0", {"model": "hinet", "strength": 0.8}, WHEN)
# TIFF 6.0, section 2: type -> format of one value.
_FORMATS = {1: "B", 3: "H", 4: "L", 5: "LL", 10: "ll"}
OPAQUE = b"HZMAKER\0" + bytes(range(256)) * 3
OWNER = "The Owner Of It"

IPTC = b"".join(
    struct.pack(">BBBH", 0x1C, record, number, len(value)) + value
    for record, number, value in (
        (1, 90, b"\x1b%G"),
        (2, 5, b"Title"),
        (2, 25, "Schlüssel".encode()),
        (2, 25, b"second"),
        (2, 55, b"20240506"),
        (2, 80, "Zoë".encode()),
        (2, 90, b"Paris"),
    )
)


def resource(number: int, body: bytes) -> bytes:
    return struct.pack(">4sHHI", b"8BIM", number, 0, len(body)) + body + b"\0" * (len(body) % 2)


PATH = resource(2000, b"a path of 26 bytes an entry")
RESOURCES = resource(0x0404, IPTC) + resource(0x040C, b"an old thumbnail") + PATH

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:aux="http://ns.adobe.com/exif/1.0/aux/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:my="http://example.org/my/" xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
 xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
 xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 tiff:Orientation="6" exif:GPSLatitude="48,51.502N" exif:GPSLongitude="2,21.0E"
 aux:SerialNumber="SN-12345" my:Custom="kept"><dc:subject><rdf:Bag><rdf:li>a</rdf:li>
 <rdf:li>b</rdf:li></rdf:Bag></dc:subject><Iptc4xmpExt:PersonInImage><rdf:Bag>
 <rdf:li>Bob Seen</rdf:li></rdf:Bag></Iptc4xmpExt:PersonInImage>
 <mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:RegionList><rdf:Bag>
 <rdf:li mwg-rs:Name="Bob Seen"/></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>
 <xmpMM:History><rdf:Seq><rdf:li stEvt:action="saved"/></rdf:Seq></xmpMM:History>
 <Iptc4xmpExt:LocationCreated><rdf:Bag><rdf:li rdf:parseType="Resource">
 <exif:GPSLatitude>48,51.502N</exif:GPSLatitude><Iptc4xmpExt:City>Paris</Iptc4xmpExt:City>
 </rdf:li></rdf:Bag></Iptc4xmpExt:LocationCreated>
 </rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()


def _ifd(order: str, entries: dict[int, tuple[int, object]], at: int, after: int = 0) -> bytes:
    head, values = struct.pack(order + "H", len(entries)), b""
    start = at + 2 + 12 * len(entries) + 4
    for code, (kind, value) in sorted(entries.items()):
        if isinstance(value, bytes):
            count, data = len(value), value
        else:
            flat = value if isinstance(value, tuple) else (value,)
            letters = _FORMATS[kind]
            count = len(flat) // len(letters)
            data = struct.pack(order + letters * count, *flat)
        if len(data) > 4:
            place = struct.pack(order + "L", start + len(values))
            values += data + b"\0" * (len(data) % 2)
        else:
            place = data.ljust(4, b"\0")
        head += struct.pack(order + "HHL", code, kind, count) + place
    return head + struct.pack(order + "L", after) + values


def exif_block(order: str = "<", maker: str = "opaque", orientation: int = 6) -> bytes:
    """A camera's EXIF block: first directory, EXIF, interoperability, GPS, thumbnail.

    The maker note is "opaque" bytes, or a "canon" directory whose values lie at positions
    that count from the start of the block.
    """
    canon = maker == "canon"
    thumbnail = io.BytesIO()
    Image.new("RGB", (16, 12), "red").save(thumbnail, "JPEG")
    thumb = thumbnail.getvalue()

    def zeroth(exif: int, gps: int) -> dict[int, tuple[int, object]]:
        return {
            271: (2, b"Canon\0" if canon else b"HzCam\0"),
            272: (2, b"Canon EOS R5\0" if canon else b"Model 1\0"),
            274: (3, orientation),
            282: (5, (300, 1)),
            283: (5, (300, 1)),
            296: (3, 2),
            305: (2, b"Camera firmware 1.0\0"),
            306: (2, b"2024:05:06 07:08:09\0"),
            315: (2, "Zoë Photographer\0".encode()),
            316: (2, b"zoes-laptop\0"),
            33432: (2, b"(c) Zoe\0"),
            34665: (4, exif),
            34853: (4, gps),
        }

    def exif(note: bytes, interop: int) -> dict[int, tuple[int, object]]:
        return {
            33434: (5, (10, 2500)),
            33437: (5, (28, 10)),
            34855: (3, 400),
            36864: (7, b"0232"),
            36867: (2, b"2024:05:06 07:08:09\0"),
            37380: (10, (-2, 3)),
            37385: (3, 0x19),
            37500: (7, note),
            37510: (7, b"ASCII\0\0\0a comment"),
            40961: (3, 1),
            40962: (4, 64),
            40963: (4, 48),
            40965: (4, interop),
            42032: (2, b"Jane Owner\0"),
            42033: (2, b"SN-12345\0"),
            42034: (5, (50, 1, 50, 1, 18, 10, 18, 10)),
            42036: (2, b"HZ 50mm F1.8\0"),
            42037: (2, b"LSN-9\0"),
        }

    gps = {
        0: (1, (2, 3, 0, 0)),
        1: (2, b"N\0"),
        2: (5, (48, 1, 51, 1, 3012, 100)),
        3: (2, b"E\0"),
        4: (5, (2, 1, 21, 1, 0, 1)),
        29: (2, b"2024:05:06\0"),
    }
    interop = {1: (2, b"R98\0"), 2: (7, b"0100")}

    def canon_note(at: int) -> bytes:
        name = OWNER.encode().ljust(32, b"\0")
        image = b"Canon EOS R5".ljust(32, b"\0")
        return _ifd(order, {6: (2, image), 9: (2, name), 16: (4, 0x80000421)}, at)

    at_exif = 8 + len(_ifd(order, zeroth(0, 0), 8))
    note = canon_note(0) if canon else OPAQUE
    if canon:
        # Its directory's values come before it in the block, by their codes: lengths are fixed.
        bare = _ifd(order, exif(note, 0), at_exif)
        note = canon_note(at_exif + bare.index(note))
    at_interop = at_exif + len(_ifd(order, exif(note, 0), at_exif))
    at_gps = at_interop + len(_ifd(order, interop, at_interop))
    at_first = at_gps + len(_ifd(order, gps, at_gps))

    def first(at: int) -> dict[int, tuple[int, object]]:
        return {259: (3, 6), 513: (4, at), 514: (4, len(thumb))}

    at_thumb = at_first + len(_ifd(order, first(0), at_first))
    return (
        (b"II" if order == "<" else b"MM")
        + struct.pack(order + "HL", 42, 8)
        + _ifd(order, zeroth(at_exif, at_gps), 8, at_first)
        + _ifd(order, exif(note, at_interop), at_exif)
        + _ifd(order, interop, at_interop)
        + _ifd(order, gps, at_gps)
        + _ifd(order, first(at_thumb), at_first)
        + thumb
    )


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def photo(path: Path, block: bytes | None = None) -> Path:
    """A 64 x 48 JPEG with EXIF, XMP, IPTC and resources, its segments put in by hand."""
    held = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 120, 60)).save(held, "JPEG", quality=90)
    data = held.getvalue()
    block = exif_block() if block is None else block
    added = segment(0xE1, b"Exif\0\0" + block) if block else b""
    added += segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP)
    added += segment(0xED, b"Photoshop 3.0\0" + RESOURCES)
    path.write_bytes(data[:2] + added + data[2:])
    return path


def result(
    path: Path, kind: str, carried: object = None, big: bool = False, order: str = "<"
) -> np.ndarray:
    """A finished file as a writer leaves it; TIFF with the tags that only a writer can write.

    Returns:
        Its pixels, (64, 48, 3).
    """
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    if kind == "tiff":
        pixels = pixels.astype(np.uint16) * 257
        tags = [
            (code, form, len(block), block, True)
            for code, form, block in (
                (700, 1, getattr(carried, "xmp", None)),
                (33723, 7, getattr(carried, "iptc", None)),
                (34377, 1, getattr(carried, "photoshop", None)),
            )
            if block
        ]
        tags += [(274, 3, 1, 1, True), *getattr(carried, "extratags", ())]
        with tifffile.TiffWriter(path, bigtiff=big, byteorder=order) as tiff:
            tiff.write(
                pixels, photometric="rgb", metadata=None, software="hz 1.0", extratags=tags,
                compression="zlib", rowsperstrip=16,
            )  # fmt: skip
    elif kind == "jxl":
        import imagecodecs

        path.write_bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1))
    elif kind == "exr":
        path.write_bytes(b"v/1\x01\x02\0\0\0" + b"\0")
    else:
        options = {"lossless": True} if kind == "webp" else {}
        Image.fromarray(pixels).save(path, kind.upper(), **options)
    return pixels


def pixels_of(path: Path, kind: str) -> np.ndarray:
    """The pixels of a `result`, by a library that knows nothing of hz."""
    if kind == "tiff":
        return tifffile.imread(path)
    if kind == "jxl":
        import imagecodecs

        return imagecodecs.jpegxl_decode(path.read_bytes())
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def finished(
    source: Path, kind: str, policy: str = "all", big: bool = False, order: str = "<", **known
) -> Path:
    """A result of `source` in the folder beside it, without ExifTool."""
    path = source.with_name(f"result.{kind}")
    with Ladder(policy, program=None) as ladder:
        job = ladder.job(source, path, SIZE, known.pop("edit", EDIT), **known)
        expected = result(path, kind, job.carried, big, order)
        job.finish(path)
        job.settle()
    assert (pixels_of(path, kind) == expected).all() or kind == "jpeg"
    assert job.notes == []
    return path
