"""What an OpenEXR header says of the photograph.

OpenEXR file layout and standard attributes, https://openexr.com/en/latest/OpenEXRFileLayout.html
"""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any, BinaryIO

from hzcli.io.metadata.exif import ASCII, MAKE, MODEL, SHORT, Ifds, text

_LARGEST = 1 << 20
_NAME = 256
_NUMBERS = {"float": "<f", "double": "<d", "int": "<i"}


def attributes(file: BinaryIO) -> dict[str, str | float]:
    """Attributes of the first part that are text or a number."""
    file.seek(8)
    found: dict[str, str | float] = {}
    while name := _word(file):
        kind = _word(file)
        (length,) = struct.unpack("<i", file.read(4))
        if not 0 <= length <= _LARGEST:
            break
        body = file.read(length)
        if kind == "string":
            found[name] = body.decode("utf-8", "replace")
        elif kind in _NUMBERS and length == struct.calcsize(_NUMBERS[kind]):
            found[name] = struct.unpack(_NUMBERS[kind], body)[0]
    return found


def _word(file: BinaryIO) -> str:
    word = b""
    while (byte := file.read(1)) not in (b"", b"\0"):
        word += byte
        if len(word) > _NAME:
            raise ValueError("a name without end in the header")
    return word.decode("latin-1")


def described(found: dict[str, str | float]) -> Ifds:
    """Standard attributes as EXIF: camera, lens, exposure, time, place, owner, comments."""
    ifds = Ifds()
    words = (("cameraMake", MAKE), ("cameraModel", MODEL), ("comments", 270), ("owner", 33432))
    for name, code in words:
        if isinstance(found.get(name), str):
            ifds.zeroth[code] = text(str(found[name]))
    for name, code in (("capDate", 36867), ("lensModel", 42036), ("cameraSerialNumber", 42033)):
        if isinstance(found.get(name), str):
            ifds.exif[code] = text(str(found[name]))
    for name, code in (("expTime", 33434), ("aperture", 33437)):
        value = found.get(name)
        if isinstance(value, float) and 0 < value < 1e6:
            ifds.exif[code] = (5, _rational(value))
    speed = found.get("isoSpeed")
    if isinstance(speed, float) and 0 < speed < 65536:
        ifds.exif[34855] = (SHORT, round(speed))
    for name, code, signs in (("latitude", 1, b"NS"), ("longitude", 3, b"EW")):
        value = found.get(name)
        if isinstance(value, float) and abs(value) <= 180:
            ifds.gps[code] = (ASCII, signs[value < 0 :][:1])
            ifds.gps[code + 1] = (5, (_rational(abs(value)), _rational(0.0), _rational(0.0)))
    if ifds.gps:
        ifds.gps[0] = (1, b"\2\3\0\0")
    return ifds


def _rational(value: float) -> Any:
    from PIL.TiffImagePlugin import IFDRational

    near = Fraction(value).limit_denominator(1_000_000)
    return IFDRational(near.numerator, near.denominator)
