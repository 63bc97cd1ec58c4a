"""JPEG, PNG and WebP: headers by walking the file, pixels by imagecodecs, as stored."""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np

from hzcli.core.window import Size
from hzcli.errors import BudgetError, PictureError
from hzcli.io.meta import (
    Header,
    Meta,
    read_exif,
    resolution,
    rgb_profile,
    upright_size,
)

FORMATS = "JPEG, PNG, TIFF or WebP"

_STILL = "Save one frame as a picture of its own."

# What codecs and container parsers raise on bytes that are not what they should be.
BROKEN = (RuntimeError, ValueError, TypeError, LookupError, OSError, EOFError, struct.error)

# Profiles are kilobytes; the limit keeps a crafted one from filling the memory.
_LARGEST_PROFILE = 64 << 20
# Decoded whole, so an absurd header must not ask for all memory there is.
_LARGEST_DECODED = 8 << 30

_STRANGERS = (
    (re.compile(rb"GIF8[79]a"), "a GIF picture"),
    (re.compile(rb"BM.{4}\0\0\0\0", re.S), "a BMP picture"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb".{4}ftyp(heic|heix|hevc|mif1|msf1|heim|heis)", re.S), "a HEIC picture"),
    (re.compile(rb".{4}ftyp(avif|avis)", re.S), "an AVIF picture"),
    (re.compile(rb".{4}ftyp(crx )", re.S), "a camera raw file"),
    (re.compile(rb".{4}ftyp", re.S), "a video"),
    (re.compile(rb"(\0\0\0\x0cJXL |\xff\x0a)"), "a JPEG XL picture"),
    (re.compile(rb"(\0\0\0\x0cjP  |\xff\x4f\xff\x51)"), "a JPEG 2000 picture"),
    (re.compile(rb"v/1\x01"), "an OpenEXR picture"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"FUJIFILMCCD-RAW"), "a camera raw file"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive"),
)


def sniff(path: Path, head: bytes) -> str:
    """The format of a file, from its first bytes; its name plays no part.

    Returns:
        "jpeg" | "png" | "tiff" | "webp".

    Raises:
        PictureError: anything else, named as well as the bytes allow.
    """
    if head[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    hint = "Save it as one of these and run again."
    if not head:
        raise PictureError(f"{path} is empty (0 bytes)", "Copy or export the picture again.")
    for pattern, name in _STRANGERS:
        if pattern.match(head):
            raise PictureError(f"{path} is {name}, expected {FORMATS}", hint)
    if not head.strip(b"\0"):
        found = "begins with zeros (an interrupted copy?)"
        raise PictureError(f"{path} {found}, expected {FORMATS}", "Copy the picture again.")
    text = all(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
    found = "a text file" if text else f"not a picture (it begins with {head[:4].hex(' ')})"
    raise PictureError(f"{path} is {found}, expected {FORMATS}", hint)


def examine(path: Path, kind: str) -> tuple[Header, Meta]:
    """Header and carried metadata of a JPEG, PNG or WebP file; no pixel is decoded."""
    read = {"jpeg": _examine_jpeg, "png": _examine_png, "webp": _examine_webp}[kind]
    try:
        with open(path, "rb") as file:
            return read(path, file)
    except BROKEN as error:
        raise unreadable(path, kind, error) from error


def unreadable(path: Path, kind: str, error: BaseException) -> PictureError:
    """A PictureError for a file whose contents cannot be made sense of."""
    return PictureError(
        f"{path} cannot be read as {kind.upper()}: {error or type(error).__name__}",
        "The file is damaged or cut short; copy or export it again.",
    )


def truncated(path: Path, kind: str, what: str) -> PictureError:
    """A PictureError for a file that ends before its picture does."""
    return PictureError(
        f"{path} is cut short: {what}, expected a whole {kind.upper()}",
        "Copy or export the picture again.",
    )


def too_large(header: Header) -> BudgetError:
    """A BudgetError for pixels that the machine has no memory for."""
    size = f"{header.size.width} x {header.size.height}"
    return BudgetError(
        f"{header.path} ({size}) needs more memory than there is",
        "Save it as TIFF in strips or tiles, which is read piece by piece.",
    )


def decode(header: Header) -> np.ndarray:
    """All pixels of a JPEG, PNG or WebP file as they are stored.

    Returns:
        (h, w, c) uint8 or uint16, not turned; grey and palette pictures are expanded to full
        samples, c is 1, 2, 3 or 4.

    Raises:
        PictureError: the file is damaged or ends too early.
    """
    path, kind, size = header.path, header.format, header.stored
    bytes_needed = size.pixels * 4 * (header.depth // 8)
    if bytes_needed > _LARGEST_DECODED:
        raise PictureError(
            f"{path} is {size.width} x {size.height}; a {kind.upper()} is decoded whole and that "
            f"needs {bytes_needed / 2**30:.0f} GiB",
            "Save it as TIFF, which is read row by row.",
        )
    try:
        data = path.read_bytes()
        if kind == "jpeg":
            _check_jpeg_end(path, data)
            pixels = imagecodecs.jpeg8_decode(data)
        elif kind == "png":
            pixels = imagecodecs.png_decode(data)
        else:
            pixels = imagecodecs.webp_decode(data)
    except BROKEN as error:
        raise unreadable(path, kind, error) from error
    except MemoryError as error:
        raise too_large(header) from error
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    dtype = np.dtype(np.uint16 if header.depth == 16 else np.uint8)
    channels = {"rgba": 4, "rgb": 3, "palette": 3, "cmyk": 4, "greya": 2}.get(header.channels, 1)
    fits = pixels.shape[:2] == (size.height, size.width) and pixels.shape[2] >= channels
    if not fits or pixels.dtype != dtype:
        raise PictureError(
            f"{path} decodes to {pixels.shape} {pixels.dtype}, its header says "
            f"{(size.height, size.width, channels)} {dtype}",
            "The file is damaged; export it again.",
        )
    return pixels


# JPEG: ITU-T T.81 annex B, JFIF 1.02, EXIF 2.3, ICC.1 annex B.4
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def _examine_jpeg(path: Path, file: BinaryIO) -> tuple[Header, Meta]:
    file.seek(2)
    frame, turn, density, exif_density, exif_seen = b"", 1, None, None, False
    profile: dict[int, bytes] = {}
    while True:
        byte = file.read(1)
        while byte and byte != b"\xff":  # stray bytes between segments are tolerated by all readers
            byte = file.read(1)
        while byte == b"\xff":
            byte = file.read(1)
        if not byte:
            raise truncated(path, "jpeg", "it ends inside its header")
        marker = byte[0]
        if marker in (0xD9, 0xDA):
            break
        if marker == 0 or marker == 1 or 0xD0 <= marker <= 0xD8:
            continue
        length = struct.unpack(">H", file.read(2))[0] - 2
        body = file.read(length)
        if len(body) < length:
            raise truncated(path, "jpeg", "it ends inside its header")
        if marker in _FRAMES and not frame:
            frame = body
        elif marker == 0xE0 and body[:5] == b"JFIF\0":
            unit, x, y = struct.unpack(">BHH", body[7:12])
            if unit in (1, 2):
                density = resolution(x, y, "inch" if unit == 1 else "centimetre")
        elif marker == 0xE1 and body[:6] == b"Exif\0\0" and not exif_seen:
            turn, exif_density = read_exif(body)
            exif_seen = True
        elif marker == 0xE2 and body[:12] == b"ICC_PROFILE\0":
            profile[body[12]] = body[14:]
    if not frame:
        raise truncated(path, "jpeg", "no picture size found in its header")
    precision, height, width, components = struct.unpack(">BHHB", frame[:6])
    if precision != 8:
        raise PictureError(
            f"{path} is a {precision}-bit JPEG, expected 8 bits a channel",
            "Save it as a 16-bit TIFF or PNG.",
        )
    names = {1: "grey", 3: "rgb", 4: "cmyk"}
    if components not in names or not height or not width:
        raise PictureError(
            f"{path} is a JPEG of {width} x {height} with {components} channels, expected RGB",
            "Export it again as an RGB JPEG.",
        )
    icc = rgb_profile(b"".join(profile[n] for n in sorted(profile)))
    size = upright_size(Size(height, width), turn)
    header = Header(path, size, 8, names[components], turn, "jpeg")
    return header, Meta(icc, density or exif_density)


def _check_jpeg_end(path: Path, data: bytes) -> None:
    """Walk all segments and scans to the end marker; decoders fill what is missing with grey."""
    position = 2
    while True:
        found = _MARKER.search(data, position)
        if found is None:
            raise truncated(path, "jpeg", "its end marker is missing")
        marker, position = data[found.start() + 1], found.end()
        if marker == 0xD9:
            return
        if marker != 1 and marker != 0xD8:
            position += int.from_bytes(data[position : position + 2], "big")


# PNG: W3C PNG Specification, third edition, sections 5 and 11
_PNG_CHANNELS = {0: "grey", 2: "rgb", 3: "palette", 4: "greya", 6: "rgba"}


def _examine_png(path: Path, file: BinaryIO) -> tuple[Header, Meta]:
    file.seek(8)
    head, icc, density, turn = b"", None, None, 1
    while True:
        start = file.read(8)
        if len(start) < 8:
            # A picture whose last bytes are missing may still be whole: the decoder will tell.
            break
        length, kind = struct.unpack(">I4s", start)
        if kind == b"IHDR":
            head = file.read(length)
        elif kind == b"iCCP":
            icc = _inflate_profile(file.read(length))
        elif kind == b"pHYs":
            x, y, unit = struct.unpack(">IIB", file.read(length))
            # Pixels per metre; TIFF knows centimetres.
            density = resolution(x / 100, y / 100, "centimetre") if unit == 1 else None
        elif kind == b"eXIf":
            turn, _ = read_exif(file.read(length))
        elif kind == b"acTL":
            raise PictureError(f"{path} is an animated PNG, expected one still picture", _STILL)
        else:
            file.seek(length, 1)
        if kind == b"IEND":
            break
        file.seek(4, 1)
    if len(head) != 13:
        raise truncated(path, "png", "it ends inside its header")
    width, height, bits, colour = struct.unpack(">IIBB", head[:10])
    if colour not in _PNG_CHANNELS or not width or not height or bits not in (1, 2, 4, 8, 16):
        raise PictureError(f"{path} has a damaged PNG header", "Export the picture again.")
    channels = "bilevel" if (colour, bits) == (0, 1) else _PNG_CHANNELS[colour]
    size = upright_size(Size(height, width), turn)
    header = Header(path, size, 16 if bits == 16 else 8, channels, turn, "png")
    return header, Meta(rgb_profile(icc), density)


def _inflate_profile(body: bytes) -> bytes | None:
    """The profile in an iCCP chunk (name, 0, method 0, zlib data); None if it is broken."""
    try:
        return zlib.decompressobj().decompress(body[body.index(0) + 2 :], _LARGEST_PROFILE)
    except (ValueError, zlib.error):
        return None


# WebP: RFC 9649, sections 2.3 to 2.7 and 3.4


def _examine_webp(path: Path, file: BinaryIO) -> tuple[Header, Meta]:
    # By hand, not by Pillow: its limit on pixels guards web servers, photographers exceed it.
    file.seek(12)
    size, canvas, alpha, icc = None, None, False, None
    turn, density = 1, None
    while len(start := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", start)
        if kind in (b"VP8X", b"VP8 ", b"VP8L"):
            body = file.read(min(length, 10))
            if kind == b"VP8X":
                canvas = Size(_uint24(body, 7) + 1, _uint24(body, 4) + 1)
                alpha = alpha or bool(body[0] & 0x10)
                if body[0] & 0x02:
                    raise PictureError(
                        f"{path} is an animated WebP, expected one still picture", _STILL
                    )
            elif kind == b"VP8 ":
                width, height = struct.unpack("<HH", body[6:10])
                size = Size(height & 0x3FFF, width & 0x3FFF)
            else:
                bits = struct.unpack("<I", body[1:5])[0]
                size = Size((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1)
                alpha = alpha or bool(bits >> 28 & 1)
            file.seek(length - len(body), 1)
        elif kind == b"ICCP":
            icc = file.read(length)
        elif kind == b"EXIF":
            turn, density = read_exif(file.read(length))
        else:
            file.seek(length, 1)
        file.seek(length % 2, 1)
    size = canvas or size
    if size is None or not size.pixels:
        raise truncated(path, "webp", "no picture size found in its header")
    channels = "rgba" if alpha else "rgb"
    header = Header(path, upright_size(size, turn), 8, channels, turn, "webp")
    return header, Meta(rgb_profile(icc), density)


def _uint24(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 3], "little")
