"""TIFF in: what the tags say, and whether hz can read what they describe.

TIFF 6.0 (Adobe, 1992) and its Photoshop supplement (2002); tifffile reads the tags.
"""

from __future__ import annotations

import itertools
import logging
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from hzcli.core.window import Size
from hzcli.errors import PictureError
from hzcli.io.formats.faults import BROKEN, truncated, unreadable
from hzcli.io.formats.layout import Layout
from hzcli.io.formats.sniff import camera_raw
from hzcli.io.meta import (
    Header,
    Meta,
    exif_colour,
    profile,
    resolution,
    upright_size,
    valid_orientation,
)

# What tifffile has to say about odd tags is for programmers; hz speaks through its own errors.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_SAVE = "Save it as 8- or 16-bit RGB TIFF without compression, or with LZW or deflate."
NONE, JPEG = 1, 7
# Compressions that are a stream of bytes: LZW, deflate (two numbers), PackBits, zstd, LZMA.
_STREAMS = (5, 8, 32946, 32773, 50000, 34925)
_DNG_VERSION = 50706
# A tile may be larger than the picture, but one much larger is a damaged number.
_TILE_MARGIN = 4096
# Stacks and documents have hundreds of pages; a loop or a bomb has more.
_MOST_PAGES = 1000
_KEPT_BYTES = 96 << 20
_WHOLE_BITS = (1, 2, 4, 6, 8, 10, 12, 14, 16, 32)
_FLOAT_BITS = (16, 32, 64)


@dataclass(frozen=True)
class Page:
    """The one picture of a file that hz works on, in strips or tiles, as stored."""

    header: Header
    meta: Meta
    layout: Layout
    samples: int  # channels in the file, alpha and further ones included
    bits: int  # of a sample
    floating: bool
    planar: bool  # each channel in segments of its own
    big_endian: bool
    inverted: bool  # 0 is white, or full ink
    reversed_bits: bool  # the first pixel in the lowest bit
    compression: int
    predictor: int  # 1 none, 2 differences, 3 differences of the bytes of floats
    segment: Size
    tiled: bool
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    number: int = 0  # of the page in the file

    @property
    def dtype(self) -> np.dtype:
        """Of the samples that are handed on."""
        return np.dtype({8: np.uint8, 16: np.uint16, 32: np.float32}[self.header.depth])

    @property
    def across(self) -> int:
        """Segments in a row."""
        return -(-self.header.stored.width // self.segment.width)

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
    def kept_bytes(self) -> int:
        """Decoded bytes that are kept while full-width windows are read: two rows of segments, so
        that windows that overlap by a halo across their border decode neither twice; only one
        where two would be much."""
        return min(2 * self.held_bytes, max(self.held_bytes, _KEPT_BYTES))

    @property
    def direct(self) -> bool:
        """Whether rows lie in the file as they are: no decoding, any row by itself."""
        as_is = self.bits == self.dtype.itemsize * 8 and self.floating == (self.dtype.kind == "f")
        plain = self.compression == NONE and self.predictor == 1 and not self.reversed_bits
        return as_is and plain and not self.tiled and not self.planar


def examine(path: Path) -> Page:
    """Read the tags of a TIFF file; no pixel is decoded.

    Raises:
        PictureError: damaged, cut short, or of a kind that hz does not read.
    """
    try:
        with tifffile.TiffFile(path) as tiff:
            page, number, notes = _main_page(path, tiff)
            found = _page(path, page, tiff.byteorder == ">", number, notes)
    except (*BROKEN, tifffile.TiffFileError) as error:
        raise unreadable(path, "tiff", error) from error
    check_extent(found)
    return found


def _main_page(
    path: Path, tiff: tifffile.TiffFile
) -> tuple[tifffile.TiffPage, int, tuple[str, ...]]:
    """The largest page that is no thumbnail and no mask, its number, and what to say of it."""
    pages = [page.aspage() for page in itertools.islice(tiff.pages, _MOST_PAGES + 1)]
    if not pages:
        raise truncated(path, "tiff", "it holds no picture")
    if _DNG_VERSION in pages[0].tags:
        raise camera_raw(path)
    if len(pages) > _MOST_PAGES:
        raise PictureError(
            f"{path} holds more than {_MOST_PAGES} pages, expected one picture a file",
            "Save the page you want as a file of its own.",
        )
    # Bits of NewSubfileType: 1 a smaller copy (thumbnail), 4 a transparency mask.
    full = [n for n, page in enumerate(pages) if not int(page.subfiletype) & 5] or [0]
    pixels = [int(pages[n].imagelength) * int(pages[n].imagewidth) for n in full]
    place = pixels.index(max(pixels))
    if len(full) == 1:
        return pages[full[0]], full[0], ()
    why = "the largest" if pixels.count(max(pixels)) == 1 else "the first of the largest"
    note = f"page {place + 1} of {len(full)} taken: {why}"
    return pages[full[place]], full[place], (note,)


def _page(
    path: Path, page: tifffile.TiffPage, big_endian: bool, number: int, notes: tuple[str, ...]
) -> Page:
    layout, more = _layout(path, page)
    bits, floating = _sample_form(path, page, layout)
    compression, predictor = _coding(path, page, bits, floating)
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
    depth = 32 if floating or bits == 32 else 16 if bits > 8 else 8
    channels = {"rgb": "rgba", "grey": "greya"}.get(layout.channels, layout.channels)
    header = Header(
        path,
        upright_size(size, turn),
        depth,
        channels if layout.alpha_at is not None else layout.channels,
        turn,
        "tiff",
        notes=notes + more,
        alpha=layout.transparent,
    )
    return Page(
        header=header,
        meta=_meta(page),
        layout=layout,
        samples=int(page.samplesperpixel),
        bits=bits,
        floating=floating,
        planar=int(page.planarconfig) == 2 and int(page.samplesperpixel) > 1,
        big_endian=big_endian,
        inverted=int(page.photometric) == 0,
        reversed_bits=int(page.fillorder) == 2,
        compression=compression,
        predictor=predictor,
        segment=segment,
        tiled=bool(page.is_tiled),
        offsets=tuple(int(v) for v in page.dataoffsets),
        lengths=tuple(int(v) for v in page.databytecounts),
        number=number,
    )


def _layout(path: Path, page: tifffile.TiffPage) -> tuple[Layout, tuple[str, ...]]:
    """What the channels of a page mean, and what to say of them."""
    photometric, samples = int(page.photometric), int(page.samplesperpixel)
    palette = None
    if photometric in (0, 1):
        channels, base = "bilevel" if page.bitspersample == 1 else "grey", 1
    elif photometric == 2 or (photometric == 6 and int(page.compression) == JPEG):
        channels, base = "rgb", 3
    elif photometric == 3:
        channels, base, palette = "palette", 1, _palette(path, page)
    elif photometric == 5:
        channels, base = "cmyk", 4
    else:
        channels, base = "", samples + 1
    if samples < base or (samples > 1 and channels in ("palette", "bilevel")):
        name = tifffile.PHOTOMETRIC(photometric).name
        raise PictureError(f"{path} is a TIFF of {samples} channels, {name}, expected RGB", _SAVE)
    icc = page.tags.valueof(34675, None)
    icc = profile(icc if isinstance(icc, bytes) else None)
    if samples == base:
        return Layout(channels, palette=palette, icc=icc), ()
    # TIFF 6.0, tag 338: 0 unspecified (Photoshop's saved selections), 1 associated, 2 alpha.
    extra = [int(kind) for kind in page.extrasamples][: samples - base]
    place = next((n for n, kind in enumerate(extra) if kind in (1, 2)), None)
    notes: list[str] = []
    if samples - base > (place is not None):
        notes.append("it has further channels (saved selections?), which are not carried")
    kind = 0 if place is None else extra[place]
    if kind == 1:
        notes.append("its alpha is associated: the colours were divided by it")
    layout = Layout(
        channels,
        base + (place or 0),
        kind in (1, 2),
        associated=kind == 1,
        palette=palette,
        icc=icc,
    )
    return layout, tuple(notes)


def _palette(path: Path, page: tifffile.TiffPage) -> np.ndarray:
    table = np.asarray(page.colormap)
    if table.ndim != 2 or table.shape[0] != 3 or not 2 <= table.shape[1] <= 65536:
        raise PictureError(f"{path} has a damaged palette", "Export it again.")
    # The table holds 16-bit values; its high bytes are the 8-bit colours of all writers but a
    # few old ones, which wrote those as they are.
    return (table.T >> (8 if table.max() > 255 else 0)).astype(np.uint8)


def _sample_form(path: Path, page: tifffile.TiffPage, layout: Layout) -> tuple[int, bool]:
    """(bits, floating) of a sample."""
    bits, form = page.bitspersample, int(page.sampleformat)
    packed = isinstance(bits, int) and bits not in (1, 8, 16, 32)
    wrong = (
        bits not in {1: _WHOLE_BITS, 3: _FLOAT_BITS}.get(form, ())
        or (bits == 1 and layout.channels not in ("bilevel", "palette"))
        or (layout.channels == "palette" and bits > 8)
        or (packed and form == 1 and int(page.predictor) != 1)
    )
    if wrong:
        kind = {1: "-bit", 2: "-bit signed", 3: "-bit float"}.get(form, "-bit complex")
        raise PictureError(
            f"{path} is a {bits}{kind} TIFF, expected 8 or 16 bits a channel, or 32-bit float",
            _SAVE,
        )
    return int(bits), form == 3


def _coding(path: Path, page: tifffile.TiffPage, bits: int, floating: bool) -> tuple[int, int]:
    """(compression, predictor)."""
    compression, bilevel = int(page.compression), bits == 1
    known = compression in (NONE, *_STREAMS)
    known = known or (compression == JPEG and bits == 8 and not floating)
    # Fax: the scans of line drawings that some masks are.
    known = known or (compression in (2, 3, 4) and bilevel)
    if not known:
        name = tifffile.COMPRESSION(compression).name
        raise PictureError(f"{path} is a TIFF with {name} compression", _SAVE)
    predictor = int(page.predictor) if compression in _STREAMS else 1
    if predictor not in (1, 2, 3) or (predictor == 3 and not floating):
        raise PictureError(
            f"{path} is a TIFF with predictor {predictor}, expected 1, 2, or 3 for floats", _SAVE
        )
    return compression, predictor


def _meta(page: tifffile.TiffPage) -> Meta:
    icc = page.tags.valueof(34675, None)
    x, y = page.tags.valueof(282, None), page.tags.valueof(283, None)
    density = None
    if isinstance(x, tuple) and isinstance(y, tuple) and x[1] and y[1]:
        unit = {2: "inch", 3: "centimetre"}.get(int(page.tags.valueof(296, 2)), "none")
        density = resolution(x[0] / x[1], y[0] / y[1], unit)
    exif: Any = page.tags.valueof(34665, None)
    exif = exif if isinstance(exif, dict) else {}
    inter: Any = exif.get("InteroperabilityTag")
    index = _interoperability(page, inter) if isinstance(inter, int) else inter
    index = index.get("InteroperabilityIndex") if isinstance(index, dict) else index
    colour = exif_colour(exif.get("ColorSpace"), index)
    return Meta(profile(icc if isinstance(icc, bytes) else None), density, colour)


def _interoperability(page: tifffile.TiffPage, place: int) -> bytes | None:
    """The four bytes of InteroperabilityIndex, in a directory that tifffile leaves alone."""
    file, order = page.parent.filehandle, page.parent.byteorder
    file.seek(place)
    data = file.read(2 + 12 * 8)
    for at in range(2, len(data) - 11, 12):
        if struct.unpack_from(order + "HHI", data, at) == (1, 2, 4):
            return bytes(data[at + 8 : at + 12])
    return None


def check_extent(page: Page) -> None:
    """Every segment lies inside the file; one that does not would be read as black.

    Raises:
        PictureError: how many are there of how many.
    """
    path, kind, size = page.header.path, page.header.format, page.header.stored
    expected = page.per_plane * (page.samples if page.planar else 1)
    what = "tiles" if page.tiled else "strips"
    if min(len(page.offsets), len(page.lengths)) < expected:
        raise truncated(path, kind, f"it lists {len(page.offsets)} of {expected} {what}")
    end = path.stat().st_size
    present = sum(
        length > 0 and offset > 0 and offset + length <= end
        for offset, length in zip(page.offsets[:expected], page.lengths[:expected], strict=True)
    )
    if present < expected:
        raise truncated(path, kind, f"it holds {present} of {expected} {what}")
    stored = sum(page.lengths[:expected])
    if page.direct and stored < size.height * page.row_bytes:
        raise truncated(
            path, kind, f"it holds {stored} of {size.height * page.row_bytes} bytes of pixels"
        )
