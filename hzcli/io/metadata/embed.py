"""Put metadata blocks into a finished file, between the pieces of its container.

Pixels are copied as bytes. Blocks of the same kind that are in the file already are replaced, so
that embedding twice is embedding once.
"""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hzcli.io import atomic
from hzcli.io.formats import raster
from hzcli.io.metadata import blocks, exif, photoshop

_SEGMENT = 65533  # bytes that a JPEG segment holds
_COPY = 1 << 20


@dataclass(frozen=True)
class Carried:
    """What a result is given besides pixels, profile and resolution; see `Blocks` for the bytes.

    `photoshop` is without the resource that holds IPTC in JPEG and PNG. `extratags` are
    tifffile's: a TIFF file must be written with them, all others take the blocks when finished.
    `verbatim`: `exif` has its values, maker notes first, at the bytes where the camera wrote them.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    photoshop: bytes | None = None
    extratags: tuple[tuple[int, int, int, Any, bool], ...] = ()
    verbatim: bool = True

    @property
    def names(self) -> set[str]:
        """Which of the four blocks there are."""
        return {name for name in NAMES if getattr(self, name)}


NAMES = ("exif", "xmp", "iptc", "photoshop")


def embed(path: Path, carried: Carried) -> set[str]:
    """Embed what the container of `path` can hold.

    Returns:
        Names of the blocks that it cannot hold.

    Raises:
        OSError: the disk refused. Others of exif.BROKEN: the file is not what it says.
    """
    if not carried.names:
        return set()
    with open(path, "rb") as file:
        kind = blocks.kind(file.read(32))
    if kind == "tiff":
        return _into_tiff(path, carried)
    if kind not in _INTO:
        return carried.names
    with atomic.beside(path) as temporary:
        with open(path, "rb") as source, open(temporary, "wb") as target:
            left = _INTO[kind](path, source, target, carried)
        shutil.copymode(path, temporary)
    return left


def _into_tiff(path: Path, carried: Carried) -> set[str]:
    """XMP, IPTC and resources are tags that the writer wrote; EXIF follows."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        codes = set(tiff.pages.first.tags.keys())
    tags = {"xmp": 700, "iptc": 33723, "photoshop": 34377}
    left = {name for name in carried.names & tags.keys() if tags[name] not in codes}
    if carried.exif and exif.EXIF not in codes and exif.GPS not in codes:
        ifds = exif.read(carried.exif)
        ifds.exif.pop(exif.COMPONENTS, None)  # of JPEG alone
        if not exif.attach(path, ifds):
            left.add("exif")
    return left


def _into_jpeg(path: Path, source: BinaryIO, target: BinaryIO, carried: Carried) -> set[str]:
    """EXIF 3.0 section 4.7.2: the EXIF segment comes first, after JFIF's own."""
    old = (blocks.EXIF_MARK, blocks.XMP_MARK, blocks.EXTENDED_MARK, blocks.PHOTOSHOP_MARK)
    segments = [s for s in blocks.jpeg_segments(source) if not s[1].startswith(old)]
    first = [s for s in segments if s[0] == 0xE0]
    new: list[tuple[int, bytes]] = []
    left: set[str] = set()
    block = carried.exif
    if block and len(blocks.EXIF_MARK + block) > _SEGMENT:
        # What a correction left unused may be what is too much.
        block = exif.rebuilt(exif.read(block))
    for name, mark, data in (
        ("exif", blocks.EXIF_MARK, block),
        ("xmp", blocks.XMP_MARK, carried.xmp),
    ):
        body = mark + (data or b"")
        if len(body) > _SEGMENT:
            left.add(name)
        elif len(body) > len(mark):
            new.append((0xE1, body))
    resources = _resources(carried)
    room = _SEGMENT - len(blocks.PHOTOSHOP_MARK)
    for at in range(0, len(resources), room):
        new.append((0xED, blocks.PHOTOSHOP_MARK + resources[at : at + room]))
    target.write(b"\xff\xd8")
    for marker, body in [*first, *new, *(s for s in segments if s[0] != 0xE0)]:
        target.write(struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body)
    shutil.copyfileobj(source, target, _COPY)
    return left


def _into_png(path: Path, source: BinaryIO, target: BinaryIO, carried: Carried) -> set[str]:
    """PNG third edition, sections 5.6 and 11.3; IPTC as ImageMagick's raw profile."""
    target.write(source.read(8))
    while len(start := source.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"):
            body = source.read(length + 4)
            if kind == b"eXIf" or body.startswith((blocks.PNG_XMP, blocks.PNG_RAW)):
                continue
            target.write(start + body)
            continue
        target.write(start)
        _copy(source, target, length + 4)
        if kind == b"IHDR":
            if carried.exif:
                target.write(_chunk(b"eXIf", carried.exif))
            if carried.xmp:
                target.write(_chunk(b"iTXt", blocks.PNG_XMP + b"\0\0\0\0" + carried.xmp))
            if data := _resources(carried):
                text = b"\niptc\n%8d\n" % len(data) + data.hex().encode() + b"\n"
                name = blocks.PNG_RAW + b"iptc\0\0"
                target.write(_chunk(b"zTXt", name + zlib.compress(text)))
    return set()


def _resources(carried: Carried) -> bytes:
    """Image resources, IPTC's first."""
    iptc = photoshop.resource(photoshop.IPTC, carried.iptc) if carried.iptc else b""
    return iptc + (carried.photoshop or b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _into_webp(path: Path, source: BinaryIO, target: BinaryIO, carried: Carried) -> set[str]:
    """RFC 9649 section 2.7: an extended header says which chunks follow."""
    header, _ = raster.examine(path, "webp")
    flags = (0x08 if carried.exif else 0) | (0x04 if carried.xmp else 0)
    target.write(source.read(12))
    seen = False
    while len(start := source.read(8)) == 8:
        kind, length = struct.unpack("<4sI", start)
        padded = length + length % 2
        if not seen:
            seen = True
            if kind == b"VP8X":
                body = source.read(padded)
                target.write(start + bytes([(body[0] & ~0x0C) | flags]) + body[1:])
                continue
            alpha = 0x10 if header.channels == "rgba" else 0
            sides = (header.stored.width - 1, header.stored.height - 1)
            body = bytes([flags | alpha, 0, 0, 0]) + b"".join(
                n.to_bytes(3, "little") for n in sides
            )
            target.write(struct.pack("<4sI", b"VP8X", 10) + body)
        if kind in (b"EXIF", b"XMP "):
            source.seek(padded, 1)
            continue
        target.write(start)
        _copy(source, target, padded)
    for kind, block in ((b"EXIF", carried.exif), (b"XMP ", carried.xmp)):
        if block:
            target.write(struct.pack("<4sI", kind, len(block)) + block + b"\0" * (len(block) % 2))
    length = target.tell() - 8
    target.seek(4)
    target.write(struct.pack("<I", length))
    return carried.names & {"iptc", "photoshop"}


# ISO 18181-2 section 9: the signature, and the file type box.
_JXL_HEAD = bytes.fromhex("0000000c 4a584c20 0d0a870a 00000014 66747970 6a786c20 00000000 6a786c20")


def _into_jxl(path: Path, source: BinaryIO, target: BinaryIO, carried: Carried) -> set[str]:
    new = b""
    if carried.exif:
        new += struct.pack(">I4sI", 12 + len(carried.exif), b"Exif", 0) + carried.exif
    if carried.xmp:
        new += struct.pack(">I4s", 8 + len(carried.xmp), b"xml ") + carried.xmp
    if source.read(2) == b"\xff\x0a":
        size = source.seek(0, 2)
        source.seek(0)
        long = size + 8 >= 2**32
        target.write(_JXL_HEAD + new + struct.pack(">I4s", 1 if long else size + 8, b"jxlc"))
        target.write(struct.pack(">Q", size + 16) if long else b"")
        shutil.copyfileobj(source, target, _COPY)
        return carried.names & {"iptc", "photoshop"}
    for kind, at, length in list(blocks.boxes(source)):
        source.seek(at)
        if kind in (b"Exif", b"xml ") or (
            kind == b"brob" and source.read(12)[8:] in (b"Exif", b"xml ")
        ):
            continue
        if kind in (b"jxlc", b"jxlp"):
            target.write(new)
            new = b""
        source.seek(at)
        _copy(source, target, length)
    return carried.names & {"iptc", "photoshop"}


def _copy(source: BinaryIO, target: BinaryIO, count: int) -> None:
    while count > 0 and (piece := source.read(min(count, _COPY))):
        target.write(piece)
        count -= len(piece)


_INTO: dict[str, Callable[[Path, BinaryIO, BinaryIO, Carried], set[str]]] = {
    "jpeg": _into_jpeg,
    "png": _into_png,
    "webp": _into_webp,
    "jxl": _into_jxl,
}
