"""TIFF in: what the tags say, and whether hz can read what they describe.

TIFF 6.0 (Adobe, 1992); tifffile reads the tags.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io.meta import Header, Meta, resolution, rgb_profile, upright_size, valid_orientation
from hzcli.io.raster import BROKEN, truncated, unreadable

# What tifffile has to say about odd tags is for programmers; hz speaks through its own errors.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_SAVE = "Save it as 8- or 16-bit RGB TIFF without compression, or with LZW or deflate."
NONE, JPEG = 1, 7
# Compressions that are a stream of bytes: LZW, deflate (two numbers), PackBits, zstd.
_STREAMS = (5, 8, 32946, 32773, 50000)
_RAW_SUFFIXES = {".dng", ".nef", ".nrw", ".cr2", ".arw", ".srf", ".sr2", ".pef", ".orf", ".rw2"}
_DNG_VERSION = 50706
# A tile may be larger than the picture, but one much larger is a damaged number.
_TILE_MARGIN = 4096


@dataclass(frozen=True)
class Page:
    """The one page of a TIFF file that hz works on, as stored."""

    header: Header
    meta: Meta
    samples: int  # channels in the file, alpha and further ones included
    bits: int  # 1 | 8 | 16
    planar: bool  # each channel in segments of its own
    big_endian: bool
    inverted: bool  # 0 is white
    compression: int
    predictor: bool
    across: int  # segments in a row
    segment: Size
    tiled: bool
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    palette: np.ndarray | None  # (3, 256) uint8

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint16 if self.bits == 16 else np.uint8)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of decoded pixels."""
        return self.header.stored.width * self.samples * self.dtype.itemsize

    @property
    def per_plane(self) -> int:
        """Segments of the picture, or of one channel of it where channels lie apart."""
        return self.across * -(-self.header.stored.height // self.segment.height)

    @property
    def held_bytes(self) -> int:
        """Decoded bytes that reading any full-width window holds at least: a row of segments."""
        if self.direct:
            return self.row_bytes
        return self.across * self.segment.pixels * self.samples * self.dtype.itemsize

    @property
    def direct(self) -> bool:
        """Whether rows lie in the file as they are: no decoding, any row by itself."""
        plain = self.compression == NONE and not self.predictor and self.bits >= 8
        return plain and not self.tiled and not self.planar


def examine(path: Path) -> Page:
    """Read the tags of a TIFF file; no pixel is decoded.

    Raises:
        PictureError: damaged, cut short, or of a kind that hz does not read.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            page = main_page(path, tiff)
            found = _page(path, page, tiff.byteorder == ">")
    except (*BROKEN, tifffile.TiffFileError) as error:
        raise unreadable(path, "tiff", error) from error
    _check_extent(path, found)
    return found


def main_page(path: Path, tiff: tifffile.TiffFile) -> tifffile.TiffPage:
    pages = [page.aspage() for page in tiff.pages]
    if not pages:
        raise truncated(path, "tiff", "it holds no picture")
    if path.suffix.lower() in _RAW_SUFFIXES or _DNG_VERSION in pages[0].tags:
        raise PictureError(
            f"{path} is a camera raw file, expected a developed picture",
            "Develop it first and export a 16-bit TIFF.",
        )
    # Bits of NewSubfileType: 1 a smaller copy (thumbnail), 4 a transparency mask.
    full = [page for page in pages if not int(page.subfiletype) & 5] or pages[:1]
    if len(full) > 1:
        raise PictureError(
            f"{path} holds {len(full)} pages, expected one picture a file",
            "Save the page you want as a file of its own.",
        )
    return full[0]


def _page(path: Path, page: tifffile.TiffPage, big_endian: bool) -> Page:
    bits, samples = page.bitspersample, int(page.samplesperpixel)
    channels = _channels(path, page)
    form = int(page.sampleformat)
    if form != 1 or bits not in (1, 8, 16) or (bits == 1 and channels not in ("grey", "bilevel")):
        kind = {1: "-bit", 2: "-bit signed", 3: "-bit float"}.get(form, "-bit complex")
        raise PictureError(f"{path} is a {bits}{kind} TIFF, expected 8 or 16 bits a channel", _SAVE)
    compression = int(page.compression)
    if compression not in (NONE, JPEG, *_STREAMS) or (compression == JPEG and bits != 8):
        name = tifffile.COMPRESSION(compression).name
        raise PictureError(f"{path} is a TIFF with {name} compression", _SAVE)
    predictor = int(page.predictor) if compression not in (NONE, JPEG) else 1
    if predictor not in (1, 2) or int(page.fillorder) != 1 or (predictor == 2 and bits == 1):
        raise PictureError(
            f"{path} is a TIFF with predictor {predictor}, fill order {int(page.fillorder)}, "
            "expected 1 or 2, and 1",
            _SAVE,
        )
    size = Size(int(page.imagelength), int(page.imagewidth))
    if not size.pixels or int(page.imagedepth) != 1:
        raise PictureError(f"{path} is {size.width} x {size.height} pixels", "Export it again.")
    if page.is_tiled:
        segment = Size(int(page.tilelength), int(page.tilewidth))
    else:
        segment = Size(min(int(page.rowsperstrip), size.height), size.width)
    if not 0 < segment.width <= size.width + _TILE_MARGIN or not (
        0 < segment.height <= size.height + _TILE_MARGIN
    ):
        raise PictureError(
            f"{path} says that its tiles are {segment.width} x {segment.height}", "Export it again."
        )
    turn = valid_orientation(page.tags.valueof(274, 1))
    palette = None
    if channels == "palette":
        # The table holds 16-bit values; its high bytes are the 8-bit colours of all writers.
        palette = (np.asarray(page.colormap) >> 8).astype(np.uint8)
        if palette.shape != (3, 256):
            raise PictureError(f"{path} has a damaged palette", "Export it again.")
    return Page(
        header=Header(
            path, upright_size(size, turn), 16 if bits == 16 else 8, channels, turn, "tiff"
        ),
        meta=_meta(page),
        samples=samples,
        bits=int(bits),
        planar=int(page.planarconfig) == 2 and samples > 1,
        big_endian=big_endian,
        inverted=int(page.photometric) == 0,
        compression=compression,
        predictor=predictor == 2,
        across=-(-size.width // segment.width),
        segment=segment,
        tiled=bool(page.is_tiled),
        offsets=tuple(int(v) for v in page.dataoffsets),
        lengths=tuple(int(v) for v in page.databytecounts),
        palette=palette,
    )


def _channels(path: Path, page: tifffile.TiffPage) -> str:
    photometric, samples = int(page.photometric), int(page.samplesperpixel)
    if photometric in (0, 1) and samples in (1, 2):
        return "bilevel" if page.bitspersample == 1 else ("grey", "greya")[samples - 1]
    if photometric == 2 and samples >= 3:
        return "rgb" if samples == 3 else "rgba"
    if photometric == 6 and int(page.compression) == JPEG and samples == 3:
        return "rgb"
    if photometric == 3 and samples == 1:
        return "palette"
    if photometric == 5:
        return "cmyk"
    name = tifffile.PHOTOMETRIC(photometric).name
    raise PictureError(f"{path} is a TIFF of {samples} channels, {name}, expected RGB", _SAVE)


def _meta(page: tifffile.TiffPage) -> Meta:
    icc = page.tags.valueof(34675, None)
    x, y = page.tags.valueof(282, None), page.tags.valueof(283, None)
    density = None
    if isinstance(x, tuple) and isinstance(y, tuple) and x[1] and y[1]:
        unit = {2: "inch", 3: "centimetre"}.get(int(page.tags.valueof(296, 2)), "none")
        density = resolution(x[0] / x[1], y[0] / y[1], unit)
    return Meta(rgb_profile(icc if isinstance(icc, bytes) else None), density)


def _check_extent(path: Path, page: Page) -> None:
    """Every segment lies inside the file; one that does not would be read as black."""
    size = page.header.stored
    expected = page.per_plane * (page.samples if page.planar else 1)
    what = "tiles" if page.tiled else "strips"
    if min(len(page.offsets), len(page.lengths)) < expected:
        raise truncated(path, "tiff", f"it lists {len(page.offsets)} of {expected} {what}")
    end = path.stat().st_size
    present = sum(
        length > 0 and offset > 0 and offset + length <= end
        for offset, length in zip(page.offsets[:expected], page.lengths[:expected], strict=True)
    )
    if present < expected:
        raise truncated(path, "tiff", f"it holds {present} of {expected} {what}")
    stored = sum(page.lengths[:expected])
    if page.direct and stored < size.height * page.row_bytes:
        raise truncated(
            path, "tiff", f"it holds {stored} of {size.height * page.row_bytes} bytes of pixels"
        )
