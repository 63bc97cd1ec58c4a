"""How the samples of a TIFF lie: in strips or tiles, compressed in which way; and encoded so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from hzcli.core.window import Size

if TYPE_CHECKING:
    from hzcli.io.formats.tags import Page

_STRIP_ROWS = 64
_STRIP_BYTES = 8 << 20
# Segments that decode to more are not kept: for a few rows of one all of it would be encoded,
# by one thread.
_LARGEST_SEGMENT = 16 << 20
# Numbers of TIFF's tag 259 and what they are called here; only streams that lose nothing.
_NUMBERS = {
    1: "none", 5: "lzw", 8: "deflate", 32946: "deflate-old", 32773: "packbits", 34925: "lzma",
    50000: "zstd",
}  # fmt: skip
# What tifffile calls them.
_NAMES = {
    "deflate": "adobe_deflate", "deflate-old": "deflate", "lzw": "lzw", "zstd": "zstd",
    "packbits": "packbits", "lzma": "lzma", "none": None,
}  # fmt: skip
FRESH = ("deflate", "lzw", "zstd", "none")


@dataclass(frozen=True)
class Form:
    """What a writer needs to know to encode a segment, and to say how it did.

    compression: one of `_NAMES`. predictor: 1 none, 2 differences, 3 those of a float's bytes.
    segment: of a strip, as wide as the picture, or of a tile. level: of deflate, 1..9.
    """

    compression: str
    predictor: int
    segment: Size
    tiled: bool
    big_endian: bool = False
    level: int = 1

    @property
    def tags(self) -> dict[str, Any]:
        """What tifffile is to say of it."""
        tags: dict[str, Any] = {}
        if self.tiled:
            tags["tile"] = (self.segment.height, self.segment.width)
        else:
            tags["rowsperstrip"] = self.segment.height
        if self.compression != "none":
            tags["compression"] = _NAMES[self.compression]
            if self.predictor != 1:
                tags["predictor"] = self.predictor
        return tags

    def cut(self, rows: np.ndarray, left: int) -> np.ndarray:
        """The segment that begins at column `left` of its rows (h, W, samples): a copy where it
        is a tile, filled up with zeros beyond the picture."""
        if not self.tiled:
            return rows
        part = rows[:, left : left + self.segment.width]
        tile = np.zeros((self.segment.height, self.segment.width, rows.shape[2]), rows.dtype)
        tile[: part.shape[0], : part.shape[1]] = part
        return tile

    def encode(self, pixels: np.ndarray) -> bytes:
        """A segment (h, w, samples) of uint8, uint16 or float32 as it lies in the file."""
        stored = pixels.dtype.newbyteorder(">" if self.big_endian else "<")
        if self.predictor == 3:
            # Bytes sorted by significance have no order of their own.
            little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
            data = imagecodecs.floatpred_encode(little, axis=-2).tobytes()
        elif self.predictor == 2:
            data = imagecodecs.delta_encode(pixels, axis=-2).astype(stored, copy=False).tobytes()
        else:
            data = pixels.astype(stored, copy=False).tobytes()
        if self.compression == "none":
            return data
        if self.compression == "lzw":
            return bytes(imagecodecs.lzw_encode(data))
        if self.compression == "zstd":
            return bytes(imagecodecs.zstd_encode(data, level=1))
        if self.compression == "packbits":
            # Runs end with their row (TIFF 6.0, section 9).
            row = len(data) // len(pixels)
            rows = (data[at : at + row] for at in range(0, len(data), row))
            return b"".join(bytes(imagecodecs.packbits_encode(part)) for part in rows)
        if self.compression == "lzma":
            return bytes(imagecodecs.lzma_encode(data))
        return bytes(imagecodecs.deflate_encode(data, level=self.level))


def fresh(
    size: Size, pixel_bytes: int, depth: int, compression: str, level: int, tile: int | None
) -> Form:
    """The form of a picture that has none to keep: strips, or tiles of edge `tile`."""
    if compression not in FRESH:
        raise ValueError(f"compression must be one of {', '.join(FRESH)}, not {compression!r}")
    predictor = 1 if compression == "none" else 3 if depth == 32 else 2
    if tile:
        return Form(compression, predictor, Size(tile, tile), True, level=level)
    rows = _strip_rows(size, pixel_bytes)
    return Form(compression, predictor, Size(rows, size.width), False, level=level)


def kept(page: Page, depth: int, samples: int, compression: str, tile: int | None) -> Form | None:
    """The form of a TIFF, where a result of `depth` and so many samples can lie likewise.

    Args:
        page: of the picture. samples: that are written, alpha included.
        compression: that was asked for, "keep" for any. tile: edge that was asked for, or None.

    Returns:
        None where samples differ in number, kind or meaning, where the compression loses
        something or is not written, and where other was asked for.
    """
    name = _NUMBERS.get(page.compression)
    layout = page.layout
    as_is = page.bits == depth and page.floating == (depth == 32) and page.samples == samples
    plain = not (page.planar or page.inverted or page.reversed_bits or layout.associated)
    known = layout.channels in ("rgb", "grey") and not layout.matted
    if name is None or not (as_is and plain and known) or page.header.orientation != 1:
        return None
    if (page.predictor == 2 and page.floating) or (name == "none" and page.predictor != 1):
        return None  # which no writer should write
    if compression not in ("keep", name.removesuffix("-old")):
        return None
    if tile is not None and (not page.tiled or page.segment != Size(tile, tile)):
        return None
    segment, pixel = page.segment, page.samples * page.bits // 8
    if page.tiled and (segment.height % 16 or segment.width % 16):
        return None
    if not page.tiled:
        # A strip may be said to be as high as can be said, which is: all rows.
        segment = Size(min(segment.height, page.header.stored.height), page.header.stored.width)
    if page.direct and segment.pixels * pixel > _STRIP_BYTES:
        # Rows that are not encoded may be cut elsewhere.
        segment = Size(_strip_rows(segment, pixel), segment.width)
    if segment.pixels * pixel > _LARGEST_SEGMENT:
        return None
    return Form(name, page.predictor, segment, page.tiled, page.big_endian)


def _strip_rows(size: Size, pixel_bytes: int) -> int:
    return max(1, min(_STRIP_ROWS, _STRIP_BYTES // (size.width * pixel_bytes), size.height))
