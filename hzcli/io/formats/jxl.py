"""JPEG XL in: the header bit by bit, pixels by imagecodecs.

ISO/IEC 18181-1 (codestream: SizeHeader and ImageMetadata), 18181-2 (boxes). The header is read
here because libjxl's wrappers tell size and profile only by decoding the picture.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io.formats.boxes import boxes_of
from hzcli.io.formats.faults import BROKEN, check_decoded, missing, too_large, truncated, unreadable
from hzcli.io.formats.layout import widened
from hzcli.io.formats.raster import fitting
from hzcli.io.meta import (
    ExifFacts,
    Header,
    Meta,
    coded_colour,
    profile,
    read_exif,
    upright_size,
)

_HEAD = 4096  # the header proper has some dozen bytes, names of channels a few more
_LARGEST_EXIF = 1 << 20
_PQ, _HLG = 16, 18


@dataclass
class _Facts:
    """What the codestream says, with the defaults of the standard."""

    size: Size
    orientation: int = 1
    bits: int = 8
    floating: bool = False
    alpha: bool = False
    associated: bool = False
    grey: bool = False
    embedded: bool = False  # an ICC profile is coded inside
    lossy: bool = True  # coded as XYB
    primaries: int = 1
    transfer: int = 13


class _Bits:
    """Fields of the codestream, least significant bit first (18181-1, section 6)."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), len(data) * 8

    def u(self, count: int) -> int:
        if count > self._left:
            raise EOFError("it ends inside its header")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

    def pick(self, *choices: tuple[int, int]) -> int:
        """U32: one of four pairs (offset, bits)."""
        offset, count = choices[self.u(2)]
        return offset + self.u(count)

    def enum(self) -> int:
        return self.pick((0, 0), (1, 0), (2, 4), (18, 6))

    def flag(self) -> bool:
        return bool(self.u(1))


def examine(path: Path) -> tuple[Header, Meta]:
    """Header and carried metadata of a JPEG XL file; pixels are decoded only if its colours are
    described by an ICC profile, which lies coded among them.

    Raises:
        PictureError: damaged, animated; or with a profile, and OpenImageIO is not installed.
    """
    try:
        with open(path, "rb") as file:
            head, exif = _codestream(path, file)
        facts = _parse(path, _Bits(head))
    except BROKEN as error:
        raise unreadable(path, "jxl", error) from error
    notes: list[str] = []
    if facts.associated:
        notes.append("its alpha is associated: the colours were divided by it")
    colour, icc = coded_colour(facts.primaries, facts.transfer), None
    if facts.embedded or colour is None:
        icc, colour = _embedded(path), None
        if facts.lossy and facts.embedded:
            notes.append("its pixels do not lie in its embedded profile: the decoder's is taken")
    if facts.transfer in (_PQ, _HLG):
        name = "PQ" if facts.transfer == _PQ else "HLG"
        notes.append(f"it is coded for HDR screens ({name}), which hz does not convert")
    channels = ("grey" if facts.grey else "rgb") + ("a" if facts.alpha else "")
    header = Header(
        path,
        upright_size(facts.size, facts.orientation),
        32 if facts.floating else 16 if facts.bits > 8 else 8,
        channels,
        facts.orientation,
        "jxl",
        notes=tuple(notes),
        alpha=facts.alpha,
    )
    return header, Meta(icc, exif.resolution, colour)


def _codestream(path: Path, file: BinaryIO) -> tuple[bytes, ExifFacts]:
    """The first bytes of the codestream, after its signature; EXIF where it stands unpacked."""
    if file.read(2) == b"\xff\x0a":
        return file.read(_HEAD), ExifFacts()
    file.seek(0)
    head, exif, end = b"", ExifFacts(), path.stat().st_size
    for name, start, size in boxes_of(file, end):
        if start + size > end:
            raise truncated(path, "jxl", f"its pixels go on to byte {start + size} of {end}")
        if name in (b"jxlc", b"jxlp"):
            file.seek(4 if name == b"jxlp" else 0, 1)
            head = head or file.read(min(_HEAD, start + size - file.tell()))
        elif name == b"Exif" and size < _LARGEST_EXIF:
            body = file.read(start + size - file.tell())
            exif = read_exif(b"Exif\0\0" + body[4 + struct.unpack(">I", body[:4])[0] :])
    if head[:2] != b"\xff\x0a":
        raise truncated(path, "jxl", "its codestream is missing")
    return head[2:], exif


_LONG = ((1, 9), (1, 13), (1, 18), (1, 30))
# SizeHeader: width from height.
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}


def _size(bits: _Bits) -> Size:
    small = bits.flag()
    height = 8 * (1 + bits.u(5)) if small else bits.pick(*_LONG)
    ratio = bits.u(3)
    if ratio:
        over, under = _RATIOS[ratio]
        return Size(height, height * over // under)
    return Size(height, 8 * (1 + bits.u(5)) if small else bits.pick(*_LONG))


def _parse(path: Path, bits: _Bits) -> _Facts:
    facts = _Facts(_size(bits))
    if bits.flag():  # all as usual
        return facts
    if bits.flag():  # extra fields
        facts.orientation = 1 + bits.u(3)
        if bits.flag():
            _size(bits)  # of the picture in use
        if bits.flag():
            _skip_preview(bits)
        if bits.flag():
            raise PictureError(
                f"{path} is an animated JPEG XL, expected one still picture",
                "Save one frame as a picture of its own.",
            )
    facts.bits, facts.floating = _depth(bits)
    bits.flag()
    for _ in range(bits.pick((0, 0), (1, 0), (2, 4), (1, 12))):
        _channel(bits, facts)
    facts.lossy = bits.flag()
    if not bits.flag():
        _colours(bits, facts)
    return facts


def _skip_preview(bits: _Bits) -> None:
    small = bits.flag()
    sides = (
        ((16, 0), (32, 0), (1, 5), (33, 9)) if small else ((1, 6), (65, 8), (321, 10), (1345, 12))
    )
    bits.pick(*sides)
    if not bits.u(3):
        bits.pick(*sides)


def _depth(bits: _Bits) -> tuple[int, bool]:
    if not bits.flag():
        return bits.pick((8, 0), (10, 0), (12, 0), (1, 6)), False
    count = bits.pick((32, 0), (16, 0), (24, 0), (1, 6))
    bits.u(4)  # of the exponent, less 1
    return count, True


def _channel(bits: _Bits, facts: _Facts) -> None:
    """ExtraChannelInfo: only alpha (0) matters, the first one."""
    if bits.flag():
        facts.alpha = True
        return
    kind = bits.enum()
    _depth(bits)
    bits.pick((0, 0), (3, 0), (4, 0), (1, 3))
    for _ in range(bits.pick((0, 0), (0, 4), (16, 5), (48, 10))):
        bits.u(8)
    if kind == 0:
        associated = bits.flag()
        facts.associated = facts.associated or (associated and not facts.alpha)
        facts.alpha = True
    elif kind == 2:  # a spot colour: four half floats
        bits.u(64)
    elif kind == 5:
        bits.pick((1, 0), (0, 2), (3, 4), (19, 8))


def _colours(bits: _Bits, facts: _Facts) -> None:
    """ColourEncoding; code points as in ITU-T H.273 but for 11, which is Display P3 or DCI."""
    facts.embedded = bits.flag()
    space = bits.enum()
    facts.grey = space == 1
    if facts.embedded:
        return
    white, primaries = 1, 1
    if space != 2:
        white = bits.enum()
        if white == 2:
            _skip_points(bits, 1)
        if space != 1:
            primaries = bits.enum()
            if primaries == 2:
                _skip_points(bits, 3)
    if bits.flag():  # a plain power
        bits.u(24)
        facts.transfer = 2
    else:
        facts.transfer = bits.enum()
    known = {1: 1, 9: 9, 11: 12} if white == 1 else {}
    facts.primaries = known.get(primaries, 2)


def _skip_points(bits: _Bits, count: int) -> None:
    for _ in range(2 * count):
        bits.pick((0, 19), (524288, 19), (1048576, 20), (2097152, 21))


def _embedded(path: Path) -> bytes | None:
    """The profile of the decoded pixels, which libjxl makes of what the codestream says."""
    try:
        import OpenImageIO
    except ImportError as error:
        raise missing(path, "jxl", "OpenImageIO", "vfx") from error
    file = OpenImageIO.ImageInput.open(str(path))
    if file is None:
        raise unreadable(path, "jxl", ValueError(OpenImageIO.geterror()))
    found = file.spec().getattribute("ICCProfile")
    file.close()
    return None if found is None else profile(np.asarray(found, np.uint8).tobytes())


def decode(header: Header) -> np.ndarray:
    """All pixels of a JPEG XL file, (h, w, c) uint8, uint16 or float32, not turned.

    Raises:
        PictureError: damaged.
        BudgetError: the machine has not memory enough.
    """
    path = header.path
    samples = {"rgba": 4, "rgb": 3, "greya": 2}.get(header.channels, 1)
    try:
        check_decoded(header, samples, path.stat().st_size)
        data = path.read_bytes()
        pixels = np.asarray(imagecodecs.jpegxl_decode(data, keeporientation=True))
        if header.depth == 32:
            pixels = pixels.astype(np.float32, copy=False)
        else:
            with open(path, "rb") as file:
                bits = _parse(path, _Bits(_codestream(path, file)[0])).bits
            pixels = widened(pixels, bits)
    except BROKEN as error:
        raise unreadable(path, "jxl", error) from error
    except MemoryError as error:
        raise too_large(header) from error
    return fitting(header, pixels, samples)
