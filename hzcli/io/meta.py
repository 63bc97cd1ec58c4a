"""What a file says about its pixels, apart from the pixels."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hzcli.core.window import Size, Window
from hzcli.io.hushed import hushed

# EXIF orientation -> (rows and columns swapped, rows reversed, columns reversed), in this order.
# TIFF 6.0 section 8, tag 274: where row 0 and column 0 of the stored pixels belong.
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


@dataclass(frozen=True)
class Meta:
    """What is carried from the composite to the result.

    `icc` is the embedded profile, byte for byte, whatever colours it describes; `resolution` is
    (x, y, "inch" | "centimetre" | "none"); `colour` is what a file without a profile says of its
    colours in another way: "srgb", "adobergb", "linear" (sRGB primaries), "p3", "rec2020".
    """

    icc: bytes | None = None
    resolution: tuple[float, float, str] | None = None
    colour: str | None = None


@dataclass(frozen=True)
class Header:
    """What the head of a file says; `size` is the size after `orientation` was applied."""

    path: Path
    size: Size
    depth: int  # 8 | 16 | 32 (float)
    channels: str  # rgb | rgba | grey | greya | palette | cmyk | bilevel
    orientation: int  # 1..8, as in EXIF; how the pixels lie that the decoder gives
    format: str  # jpeg | png | tiff | webp | psd | heic | avif | jxl | exr
    notes: tuple[str, ...] = ()  # what a user should be told
    alpha: bool = False  # transparency that belongs to the picture and is given back

    @property
    def stored(self) -> Size:
        """Size of the pixels as they lie in the file."""
        return upright_size(self.size, self.orientation)


def upright_size(size: Size, orientation: int) -> Size:
    """`size` with height and width exchanged where `orientation` exchanges them."""
    return Size(size.width, size.height) if _TURNS[orientation][0] else size


def orient(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn stored pixels upright.

    Args:
        array: (h, w) or (h, w, c), as stored.
        orientation: 1..8, as in EXIF tag 274.

    Returns:
        A view of `array`, (h, w, ...) or (w, h, ...).
    """
    swap, rows, columns = _TURNS[orientation]
    if swap:
        array = array.swapaxes(0, 1)
    return array[:: -1 if rows else 1, :: -1 if columns else 1]


def stored_box(window: Window, orientation: int) -> tuple[int, int, int, int]:
    """(top, bottom, left, right) of the stored pixels that `orient` turns into `window`."""
    swap, rows, columns = _TURNS[orientation]
    top, bottom, left, right = window.top, window.bottom, window.left, window.right
    if rows:
        top, bottom = window.size.height - bottom, window.size.height - top
    if columns:
        left, right = window.size.width - right, window.size.width - left
    return (left, right, top, bottom) if swap else (top, bottom, left, right)


def valid_orientation(value: Any) -> int:
    """`value` if it is an orientation, else 1: cameras write 0 for "unknown"."""
    return int(value) if value in _TURNS else 1


def profile(icc: bytes | None) -> bytes | None:
    """`icc` if it can be a profile at all (ICC.1 section 7.2: 128 bytes of header, "acsp")."""
    return icc if icc and len(icc) > 128 and icc[36:40] == b"acsp" else None


def coded_colour(primaries: int, transfer: int) -> str | None:
    """The colours that a pair of code points names (ITU-T H.273, tables 2 and 3), if hz knows it.

    Args:
        primaries: 1 BT.709, 9 BT.2020, 12 Display P3; 2 is "unspecified".
        transfer: 13 sRGB, 8 linear, 1, 6, 14 and 15 the BT.709 curve of video, which stills that
            are coded as video use for what was sRGB.
    """
    video = transfer in (1, 6, 14, 15)
    if primaries == 1:
        return "linear" if transfer == 8 else "srgb" if transfer == 13 or video else None
    if primaries == 9:
        return "rec2020" if video else "linear-rec2020" if transfer == 8 else None
    return "p3" if primaries == 12 and transfer == 13 else None


def resolution(x: Any, y: Any, unit: str) -> tuple[float, float, str] | None:
    """The pair as a resolution, or None where it says nothing.

    That is zero, infinite or no number, and equal numbers without a unit: square pixels.
    """
    try:
        pair = float(x), float(y)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not all(math.isfinite(v) and v > 0 for v in pair) or (unit == "none" and x == y):
        return None
    return (*pair, unit)


class ExifFacts(NamedTuple):
    """What hz takes from an EXIF block; the rest is carried as it is."""

    orientation: int = 1
    resolution: tuple[float, float, str] | None = None
    colour: str | None = None


def read_exif(data: bytes) -> ExifFacts:
    """Orientation, resolution and colours in an EXIF block; nothing where it is broken."""
    from PIL import Image

    exif = Image.Exif()
    try:
        with hushed():  # what Pillow thinks of the block is no news to a user
            exif.load(data)
            turn = valid_orientation(exif.get(274))
            unit = {2: "inch", 3: "centimetre"}.get(exif.get(296, 2), "none")
            density = resolution(exif.get(282), exif.get(283), unit)
            colours = exif.get_ifd(0x8769).get(0xA001)
            return ExifFacts(turn, density, exif_colour(colours, exif.get_ifd(0xA005).get(1)))
    except (SyntaxError, ValueError, TypeError, LookupError, OSError, struct.error):
        # A broken EXIF block must not cost the photographer the picture.
        return ExifFacts()


def exif_colour(colours: Any, index: Any) -> str | None:
    """What EXIF says of the colours of a file without a profile.

    Args:
        colours: tag ColorSpace: 1 is sRGB, 65535 is "uncalibrated", 2 is Adobe RGB by habit.
        index: tag InteroperabilityIndex: "R98" is sRGB, "R03" is Adobe RGB (DCF 2.0).
    """
    text = index.decode("ascii", "replace") if isinstance(index, bytes) else str(index or "")
    if colours == 2 or text.startswith("R03"):
        return "adobergb"
    return "srgb" if colours == 1 or text.startswith("R98") else None
