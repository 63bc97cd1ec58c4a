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
from hzcli.errors import PictureError
from hzcli.io.formats.faults import BROKEN, check_decoded, too_large, truncated, unreadable
from hzcli.io.meta import (
    ExifFacts,
    Header,
    Meta,
    coded_colour,
    profile,
    read_exif,
    resolution,
    upright_size,
)

_STILL = "Save one frame as a picture of its own."
# Profiles are kilobytes; the limit keeps a crafted one from filling the memory.
_LARGEST_PROFILE = 64 << 20


def examine(path: Path, kind: str) -> tuple[Header, Meta]:
    """Header and carried metadata of a JPEG, PNG or WebP file; no pixel is decoded."""
    read = {"jpeg": _examine_jpeg, "png": _examine_png, "webp": _examine_webp}[kind]
    try:
        with open(path, "rb") as file:
            return read(path, file)
    except BROKEN as error:
        raise unreadable(path, kind, error) from error


def decode(header: Header) -> np.ndarray:
    """All pixels of a JPEG, PNG or WebP file as they are stored.

    Returns:
        (h, w, c) uint8 or uint16, not turned; grey and palette pictures are expanded to full
        samples, c is 1, 2, 3 or 4 (transparency last). In CMYK 0 is no ink.

    Raises:
        PictureError: the file is damaged or ends too early.
        BudgetError: the machine has not memory enough.
    """
    path, kind = header.path, header.format
    samples = {"rgba": 4, "rgb": 3, "palette": 3, "cmyk": 4, "greya": 2}.get(header.channels, 1)
    samples += header.channels == "palette" and header.alpha
    try:
        check_decoded(header, samples, path.stat().st_size)
        data = path.read_bytes()
        if kind == "jpeg":
            _check_jpeg_end(path, data)
            pixels = imagecodecs.jpeg8_decode(data)
            if header.channels == "cmyk" and _ADOBE.search(data[: data.index(b"\xff\xda")]):
                # Adobe stores how much light is left, not how much ink there is.
                np.invert(pixels, out=pixels)
        elif kind == "png":
            pixels = imagecodecs.png_decode(data)
        else:
            pixels = imagecodecs.webp_decode(data, hasalpha=header.alpha or None)
    except BROKEN as error:
        raise unreadable(path, kind, error) from error
    except MemoryError as error:
        raise too_large(header) from error
    return fitting(header, pixels, samples)


def fitting(header: Header, pixels: np.ndarray, samples: int) -> np.ndarray:
    """Decoded pixels as (h, w, samples), if they are what the header promised."""
    size = header.stored
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    dtype = np.dtype({8: np.uint8, 16: np.uint16, 32: np.float32}[header.depth])
    fits = pixels.shape[:2] == (size.height, size.width) and pixels.shape[2] >= samples
    if not fits or pixels.dtype != dtype:
        raise PictureError(
            f"{header.path} decodes to {pixels.shape} {pixels.dtype}, its header says "
            f"{(size.height, size.width, samples)} {dtype}",
            "The file is damaged; export it again.",
        )
    return pixels[..., :samples]


# JPEG: ITU-T T.81 annex B, JFIF 1.02, EXIF 2.3, ICC.1 annex B.4
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ADOBE = re.compile(rb"\xff\xee..Adobe", re.S)
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


def _examine_jpeg(path: Path, file: BinaryIO) -> tuple[Header, Meta]:
    file.seek(2)
    frame, density, exif = b"", None, None
    parts: dict[int, bytes] = {}
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
        elif marker == 0xE1 and body[:6] == b"Exif\0\0" and exif is None:
            exif = read_exif(body)
        elif marker == 0xE2 and body[:12] == b"ICC_PROFILE\0":
            parts[body[12]] = body[14:]
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
    exif = exif or ExifFacts()
    size = upright_size(Size(height, width), exif.orientation)
    header = Header(path, size, 8, names[components], exif.orientation, "jpeg")
    icc = profile(b"".join(parts[n] for n in sorted(parts)))
    return header, Meta(icc, density or exif.resolution, exif.colour)


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
PNG_CHANNELS = {0: "grey", 2: "rgb", 3: "palette", 4: "greya", 6: "rgba"}


def _examine_png(path: Path, file: BinaryIO) -> tuple[Header, Meta]:
    file.seek(8)
    head, icc, density, transparent = b"", None, None, False
    exif, colours = ExifFacts(), dict[bytes, str | None]()
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
            exif = read_exif(file.read(length))
        elif kind in (b"sRGB", b"gAMA", b"cICP"):
            colours[kind] = _png_colour(kind, file.read(length))
        elif kind == b"tRNS":
            transparent = True
            file.seek(length, 1)
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
    if colour not in PNG_CHANNELS or not width or not height or bits not in (1, 2, 4, 8, 16):
        raise PictureError(f"{path} has a damaged PNG header", "Export the picture again.")
    channels = "bilevel" if (colour, bits) == (0, 1) else PNG_CHANNELS[colour]
    if transparent:  # one colour is: decoders make a channel of it
        channels = {"rgb": "rgba", "grey": "greya", "bilevel": "greya"}.get(channels, channels)
    depth, turn = 16 if bits == 16 else 8, exif.orientation
    alpha = transparent or channels in ("rgba", "greya")
    header = Header(
        path, upright_size(Size(height, width), turn), depth, channels, turn, "png", alpha=alpha
    )
    # In the order of the specification; what EXIF says comes last.
    said = [colours[name] for name in (b"cICP", b"sRGB", b"gAMA") if colours.get(name)]
    return header, Meta(profile(icc), density, said[0] if said else exif.colour)


def _png_colour(kind: bytes, body: bytes) -> str | None:
    """What a colour chunk other than iCCP says (sections 11.3.2.2 to 11.3.2.6)."""
    if kind == b"sRGB":
        return "srgb"
    if kind == b"cICP":
        return coded_colour(body[0], body[1])
    # The exponent of encoding times 100,000; 1/2.2 is written by all who mean sRGB.
    return {100_000: "linear", 45_455: "srgb"}.get(struct.unpack(">I", body[:4])[0])


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
    exif = ExifFacts()
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
            exif = read_exif(file.read(length))
        else:
            file.seek(length, 1)
        file.seek(length % 2, 1)
    size = canvas or size
    if size is None or not size.pixels:
        raise truncated(path, "webp", "no picture size found in its header")
    channels, turn = "rgba" if alpha else "rgb", exif.orientation
    header = Header(path, upright_size(size, turn), 8, channels, turn, "webp", alpha=alpha)
    return header, Meta(profile(icc), exif.resolution, exif.colour)


def _uint24(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 3], "little")
