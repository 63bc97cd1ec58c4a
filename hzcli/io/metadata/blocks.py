"""The metadata blocks of a file, as bytes, whatever holds them; no pixel is decoded.

Containers are walked as in `raster`, not opened by Pillow, whose limit on pixels guards web
servers. A block that is broken is left out with a note: metadata never costs anyone the picture.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from hzcli.errors import HzError
from hzcli.io.metadata import exif as exifs
from hzcli.io.metadata import exr_header, photoshop
from hzcli.io.metadata.exif import BROKEN
from hzcli.io.metadata.xmp import Packet

# Blocks are kilobytes, with depth maps inside megabytes; more would be a crafted length.
_LARGEST = 64 << 20

_MAGIC = (
    ("jpeg", re.compile(rb"\xff\xd8\xff")),
    ("png", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("tiff", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("webp", re.compile(rb"RIFF....WEBP", re.S)),
    ("psd", re.compile(rb"8BPS\0[\1\2]")),
    ("heic", re.compile(rb"....ftyp(hei|hev|mif1|msf1)", re.S)),
    ("avif", re.compile(rb"....ftypavi", re.S)),
    ("jxl", re.compile(rb"\xff\x0a|\0\0\0\x0cJXL ")),
    ("exr", re.compile(rb"v/1\x01")),
)


@dataclass(frozen=True)
class Blocks:
    """What a file carries besides pixels, profile and resolution.

    `exif` is a TIFF structure without the "Exif" mark, `xmp` a packet (an extended one merged
    in), `iptc` IIM records, `photoshop` image resources (the IPTC one among them). `verbatim`:
    `exif` is the file's own bytes, not gathered from directories. `notes`: what was left out.
    """

    kind: str = "unknown"
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    photoshop: bytes | None = None
    verbatim: bool = True
    notes: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.exif or self.xmp or self.iptc or self.photoshop)


def blocks(path: Path) -> Blocks:
    """Read the metadata of a file; what cannot be read is left out with a note."""
    container = "unknown"
    try:
        with open(path, "rb") as file:
            container = kind(file.read(32))
            if container not in _READERS:
                return Blocks(container)
            file.seek(0)
            found = _READERS[container](path, file)
    except (*BROKEN, HzError, zlib.error, MemoryError) as error:
        return Blocks(container, notes=(f"metadata not read: {error or type(error).__name__}",))
    return _checked(replace(found, kind=container))


def kind(head: bytes) -> str:
    """The container that begins with `head` (32 bytes suffice), or "unknown"."""
    return next((name for name, magic in _MAGIC if magic.match(head)), "unknown")


def _checked(found: Blocks) -> Blocks:
    """`found` without what no reader could make sense of."""
    notes = list(found.notes)
    exif, xmp, iptc = found.exif, found.xmp, found.iptc
    if exif:
        exif = exifs.bare(exif)
        try:
            read = exifs.read(exif)
            if not (read.zeroth or read.exif or read.gps):
                raise ValueError("it is empty")
        except BROKEN as error:
            notes.append(f"EXIF block left out: {error or type(error).__name__}")
            exif = None
    if xmp:
        try:
            Packet(xmp)
        except ValueError as error:
            notes.append(f"XMP left out: {error}")
            xmp = None
    if iptc and iptc[:1] != b"\x1c":
        notes.append("IPTC left out: it does not begin with a record")
        iptc = None
    resources = found.photoshop
    if resources and not any(True for _ in photoshop.resources(resources)):
        notes.append("Photoshop resources left out: broken")
        resources = None
    return replace(
        found,
        exif=exif or None,
        xmp=xmp or None,
        iptc=iptc or None,
        photoshop=resources or None,
        notes=tuple(notes),
    )


def _of_resources(data: bytes, **known: bytes | None) -> Blocks:
    """Blocks of Photoshop's resources, those in `known` first."""
    iptc = photoshop.find(data, photoshop.IPTC)
    exif = photoshop.find(data, photoshop.EXIF)
    xmp = photoshop.find(data, photoshop.XMP)
    return Blocks(
        exif=known.get("exif") or exif,
        xmp=known.get("xmp") or xmp,
        iptc=known.get("iptc") or iptc,
        photoshop=data or None,
    )


# JPEG: EXIF 3.0 section 4.7.2; XMP part 3 section 1.1.3

EXIF_MARK = b"Exif\0\0"
XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_MARK = b"http://ns.adobe.com/xmp/extension/\0"
PHOTOSHOP_MARK = b"Photoshop 3.0\0"


def jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(marker, body) of the segments before the first scan; the file is left at the scan."""
    file.seek(2)
    while True:
        byte = file.read(1)
        while byte and byte != b"\xff":
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if not byte or byte[0] in (0xD9, 0xDA):
            file.seek(-2 if byte else 0, 1)
            return
        if byte[0] in (0, 1) or 0xD0 <= byte[0] <= 0xD8:
            continue
        length = struct.unpack(">H", file.read(2))[0]
        yield byte[0], file.read(max(0, length - 2))


def _jpeg(path: Path, file: BinaryIO) -> Blocks:
    exif, xmp, resources = None, None, b""
    extended: dict[bytes, dict[int, bytes]] = {}
    for marker, body in jpeg_segments(file):
        if marker == 0xE1 and body.startswith(EXIF_MARK):
            exif = exif or body
        elif marker == 0xE1 and body.startswith(XMP_MARK):
            xmp = xmp or body[len(XMP_MARK) :]
        elif marker == 0xE1 and body.startswith(EXTENDED_MARK):
            part = body[len(EXTENDED_MARK) :]
            (offset,) = struct.unpack_from(">I", part, 36)
            extended.setdefault(part[:32], {})[offset] = part[40:]
        elif marker == 0xED and body.startswith(PHOTOSHOP_MARK):
            resources += body[len(PHOTOSHOP_MARK) :]
    found = _of_resources(resources, exif=exif, xmp=xmp)
    if not (xmp and extended):
        return found
    try:
        packet = Packet(xmp)
        name = packet.get("http://ns.adobe.com/xmp/note/", "HasExtendedXMP") or ""
        parts = extended[name.encode()]
        packet.merge(Packet(b"".join(parts[at] for at in sorted(parts))))
        return replace(found, xmp=packet.tobytes())
    except (ValueError, LookupError) as error:
        return replace(found, notes=(f"extended XMP left out: {error}",))


# PNG: third edition, sections 11.3.3 and 11.3.5; the raw profiles are ImageMagick's convention

PNG_XMP = b"XML:com.adobe.xmp\0"
PNG_RAW = b"Raw profile type "


def _png(path: Path, file: BinaryIO) -> Blocks:
    file.seek(8)
    exif, xmp, resources, iptc = None, None, b"", None
    while len(start := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", start)
        if kind == b"IEND":
            break
        if kind not in (b"eXIf", b"iTXt", b"zTXt", b"tEXt") or length > _LARGEST:
            file.seek(length + 4, 1)
            continue
        body = file.read(length)
        file.seek(4, 1)
        if kind == b"eXIf":
            exif = body
        elif kind == b"iTXt" and body.startswith(PNG_XMP):
            packed = body[len(PNG_XMP)] == 1
            rest = body[len(PNG_XMP) + 2 :].split(b"\0", 2)[2]
            xmp = _inflate(rest) if packed else rest
        elif kind in (b"zTXt", b"tEXt") and body.startswith(PNG_RAW):
            name, _, rest = body[len(PNG_RAW) :].partition(b"\0")
            data = _unhex(_inflate(rest[1:]) if kind == b"zTXt" else rest)
            if data.startswith(EXIF_MARK):
                exif = exif or data
            elif data.startswith(XMP_MARK):
                xmp = xmp or data[len(XMP_MARK) :]
            elif name == b"xmp":
                xmp = xmp or data
            elif data.startswith(PHOTOSHOP_MARK):
                resources = data[len(PHOTOSHOP_MARK) :]
            elif data.startswith(b"8BIM"):
                resources = data
            elif name == b"iptc":
                iptc = data
    return _of_resources(resources, exif=exif, xmp=xmp, iptc=iptc)


def _inflate(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, _LARGEST)


def _unhex(text: bytes) -> bytes:
    """The bytes of a raw profile: a line of its name, one of its length, lines of hexadecimals."""
    lines = text.strip().split(b"\n")
    return bytes.fromhex(b"".join(lines[2:]).decode("ascii"))


# WebP: RFC 9649 section 2.7


def _webp(path: Path, file: BinaryIO) -> Blocks:
    file.seek(12)
    exif = xmp = None
    while len(start := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", start)
        if kind in (b"EXIF", b"XMP ") and length <= _LARGEST:
            body = file.read(length)
            exif, xmp = (body, xmp) if kind == b"EXIF" else (exif, body)
            file.seek(length % 2, 1)
        else:
            file.seek(length + length % 2, 1)
    return Blocks(exif=exif, xmp=xmp)


# TIFF: XMP part 3 section 1.1.8; TIFF/EP for IPTC


def _tiff(path: Path, file: BinaryIO) -> Blocks:
    import tifffile

    bodies: dict[int, bytes] = {}
    with tifffile.TiffFile(path) as tiff:
        for code in (700, 33723, 34377):
            tag = tiff.pages.first.tags.get(code)
            if tag is not None and tag.valuebytecount <= _LARGEST:
                tiff.filehandle.seek(tag.valueoffset)
                bodies[code] = tiff.filehandle.read(tag.valuebytecount)
    ifds = exifs.read_tiff(path)
    block = exifs.rebuilt(ifds) if ifds.zeroth or ifds.exif or ifds.gps else None
    found = _of_resources(
        bodies.get(34377, b""), exif=block, xmp=bodies.get(700), iptc=bodies.get(33723)
    )
    return replace(found, verbatim=False)


# PSD and PSB: Adobe Photoshop File Formats Specification, file header and image resources


def _psd(path: Path, file: BinaryIO) -> Blocks:
    file.seek(26)
    file.seek(struct.unpack(">I", file.read(4))[0], 1)
    (length,) = struct.unpack(">I", file.read(4))
    if length > _LARGEST:
        raise ValueError("image resources of more than 64 MiB")
    return _of_resources(file.read(length))


# HEIC and AVIF: ISO 23008-12, annex A


def _heif(path: Path, file: BinaryIO) -> Blocks:
    from hzcli.io.formats.boxes import read

    exif, xmp = None, None
    listed = read(path, "heic", file)
    for item, name in listed.kinds.items():
        start, length = listed.extents.get(item, (0, 0))
        if name not in (b"Exif", b"mime") or not 4 < length <= _LARGEST:
            continue
        file.seek(start)
        body = file.read(length)
        if name == b"Exif":
            exif = exif or _after_offset(body)
        elif b"adobe:ns:meta" in body or b"22-rdf-syntax-ns" in body:
            xmp = xmp or body
    return Blocks(exif=exif, xmp=xmp)


def _after_offset(body: bytes) -> bytes:
    """An EXIF block behind four bytes that say where in the rest its header begins."""
    return body[4 + struct.unpack(">I", body[:4])[0] :]


# JPEG XL: ISO 18181-2 section 9


def boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, length) of each box of the file, heads included."""
    end = file.seek(0, 2)
    at = 0
    while at + 8 <= end:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        length = length or end - at
        if length < 8 or at + length > end:
            return
        yield kind, at, length
        at += length


def _jxl(path: Path, file: BinaryIO) -> Blocks:
    if file.read(2) == b"\xff\x0a":
        return Blocks()
    found: dict[bytes, bytes] = {}
    for kind, at, length in boxes(file):
        if kind not in (b"Exif", b"xml ", b"brob") or length > _LARGEST:
            continue
        file.seek(at)
        body = file.read(length)[8:]
        if kind == b"brob":
            import imagecodecs

            kind, body = body[:4], bytes(imagecodecs.brotli_decode(body[4:]))
        found.setdefault(kind, body)
    exif = found.get(b"Exif")
    return Blocks(exif=_after_offset(exif) if exif else None, xmp=found.get(b"xml "))


def _exr(path: Path, file: BinaryIO) -> Blocks:
    found = exr_header.described(exr_header.attributes(file))
    block = exifs.rebuilt(found) if found.zeroth or found.exif or found.gps else None
    return Blocks(exif=block, verbatim=False)


_READERS: dict[str, Callable[[Path, BinaryIO], Blocks]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "tiff": _tiff,
    "psd": _psd,
    "heic": _heif,
    "avif": _heif,
    "jxl": _jxl,
    "exr": _exr,
}
