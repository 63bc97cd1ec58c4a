"""Pass one: the whole picture, seen once, row by row, to make what the network looks at.

Three filters, for networks want what they were trained on: "area", the mean of the pixels that
a thumbnail's pixel covers (our own); "bilinear", samples between two pixels, which alias
(OpenCV's INTER_LINEAR, torch's interpolate without antialiasing); "triangle", a hat over two
pixels of the thumbnail (Pillow's BILINEAR). Each is a matrix for rows and one for columns, and
the sums grow band by band. Nothing is rounded to 8 bits on the way.

Networks know sRGB, so colours become that before they are averaged: the mean of another space's
numbers is another colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window
from hzcli.engine.overlap import ahead
from hzcli.engine.plan import Box
from hzcli.engine.reduction import FILTERS, Part, Square, resize, weights
from hzcli.engine.workers import workers

if TYPE_CHECKING:
    from hzcli.engine.colour import Colour

__all__ = [
    "FILTERS", "Reader", "Survey", "full_scale", "look", "make", "make_reference", "resize",
    "weights",
]  # fmt: skip

# Rows read at once hold about this many pixels. Fixed, not planned: the sums, and with them
# the network's answer, are the same whatever the memory allowed.
READ_PIXELS = 1 << 19
# Decoded bytes that may be held where several windows are read at once, and those of a segment
# of a TIFF above which windows are rows all the same.
HELD_BYTES = 96 << 20
SEGMENT_BYTES = 24 << 20


class Reader(Protocol):
    """What the engine asks of a picture or a mask: rows, in the file's own depth.

    Where it has them: `has_alpha` with `read_alpha`, and `header`, whose channels may be grey.
    """

    size: Size
    depth: int

    def read(self, window: Window) -> np.ndarray: ...


@dataclass(frozen=True)
class Survey:
    """What one look at a picture and its mask gives.

    thumbnail: rgb (1, 3, edge, edge) and mask (1, 1, edge, edge), float32, [0, 1].
    box: (top, bottom, left, right) of the pixels with mask > 0, None if there are none.
    foreground: mean of the soft mask, [0, 1]. inside: number of pixels with mask > 0.
    lowest: smallest value of the mask, [0, 1]. met: (down, across) bool, of the cells that were
    asked for those that have foreground.
    """

    thumbnail: Thumbnail
    box: tuple[int, int, int, int] | None
    foreground: float
    inside: int
    lowest: float
    met: np.ndarray | None = None


def full_scale(depth: int) -> float:
    """The number that stands for 1: the highest code, or 1 of float pictures (depth 32)."""
    return 1.0 if depth == 32 else float((1 << depth) - 1)


def look(
    reader: Reader,
    mask_reader: Reader,
    predictor: Any,
    reference: Reader | None = None,
    colour: Colour | None = None,
    reference_colour: Colour | None = None,
    cells: Size | None = None,
) -> Survey:
    """Pass one as a model asks for it by its attributes: see `stream.Predictor`."""
    edge, kind = predictor.thumbnail_edge, getattr(predictor, "thumbnail_filter", "area")
    closeup = getattr(predictor, "needs_closeup", False)
    mask_edges = getattr(predictor, "mask_edges", ())
    survey = make(
        reader,
        mask_reader,
        edge,
        kind,
        closeup=closeup,
        mask_edges=mask_edges,
        colour=colour,
        cells=cells,
    )
    if reference is None:
        return survey
    seen = make_reference(reference, edge, kind, reference_colour)
    return replace(survey, thumbnail=replace(survey.thumbnail, reference=seen))


def make(
    reader: Reader,
    mask_reader: Reader,
    edge: int,
    filter: str = "area",
    *,
    closeup: bool = False,
    mask_edges: tuple[int, ...] = (),
    colour: Colour | None = None,
    cells: Size | None = None,
) -> Survey:
    """Reduce a picture and its mask to squares of `edge` pixels; the aspect is squashed.

    Args:
        reader: gives (h, w, 3) uint8, uint16 or float32. mask_reader: gives (h, w) codes, of the
            same size.
        edge: height and width of the thumbnail. filter: one of `FILTERS`.
        closeup: whether the box of the mask is read once more, for a thumbnail of its own.
        mask_edges: squares to which the mask is sampled as well, bilinearly.
        colour: how the picture's numbers become sRGB; None where they are.
        cells: rectangles, counted from the top left, that are asked for foreground.

    Returns:
        The thumbnail, and where and how much foreground there is.
    """
    size = reader.size
    rgb = Square(size, edge, 3, filter)
    masks = [Square(size, edge, 1, filter), *(Square(size, e, 1, "bilinear") for e in mask_edges)]
    full = (1 << mask_reader.depth) - 1
    rows_hit = np.zeros(size.height, bool)
    columns_hit = np.zeros(size.width, bool)
    total = inside = 0
    lowest = full
    met = None if cells is None else _cells(size, cells)
    for window in _windows(size, (0, size.height, 0, size.width), _rows(size)):
        codes = mask_reader.read(window)
        columns_high = codes.max(axis=0)
        columns_hit |= columns_high > 0
        rows_hit[window.top : window.bottom] = codes.max(axis=1) > 0
        lowest = min(lowest, int(codes.min()))
        if columns_high.any():  # else this band adds nothing to the mask
            total += _sum(codes)
            inside += int(np.count_nonzero(codes))
            for square in masks:
                square.take(square.part(codes[..., None], 1 / full, window.top))
            if met is not None and cells is not None:
                _meet(met, cells, codes, window.top)
    _add(rgb, reader, (0, size.height, 0, size.width), colour)
    thumb = Thumbnail(rgb.tensor(), masks[0].tensor(), size)
    if mask_edges:
        sampled = zip(mask_edges, masks[1:], strict=True)
        thumb = replace(thumb, masks={edge: square.tensor() for edge, square in sampled})
    box = None
    if inside:
        rows, columns = np.flatnonzero(rows_hit), np.flatnonzero(columns_hit)
        box = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
        if closeup:
            seen = _closeup(reader, mask_reader, box, edge, filter, colour)
            thumb = replace(thumb, closeup=seen)
    return Survey(thumb, box, total / full / size.pixels, inside, lowest / full, met)


def _cells(size: Size, cells: Size) -> np.ndarray:
    return np.zeros((-(-size.height // cells.height), -(-size.width // cells.width)), bool)


def _meet(met: np.ndarray, cells: Size, codes: np.ndarray, top: int) -> None:
    """Mark the cells that have foreground in the mask's rows from `top` on."""
    lefts = np.arange(0, codes.shape[1], cells.width)
    for row in range(top // cells.height, -(-(top + len(codes)) // cells.height)):
        start = max(0, row * cells.height - top)
        high = codes[start : (row + 1) * cells.height - top].max(axis=0)
        met[row] |= np.logical_or.reduceat(high > 0, lefts)


def make_reference(
    reader: Reader, edge: int, filter: str = "area", colour: Colour | None = None
) -> torch.Tensor:
    """Another picture, of any size, as the network sees it: (1, 3, edge, edge), [0, 1]."""
    rgb = Square(reader.size, edge, 3, filter)
    _add(rgb, reader, (0, reader.size.height, 0, reader.size.width), colour)
    return rgb.tensor()


def _sum(codes: np.ndarray) -> int:
    """Of whole numbers, without rounding; column by column, as vector instructions like it."""
    if len(codes) > 1 << 16:  # whose sums might not fit
        return int(codes.sum(dtype=np.uint64))
    return int(np.add.reduce(codes, axis=0, dtype=np.uint32).sum(dtype=np.uint64))


def _closeup(
    reader: Reader,
    mask_reader: Reader,
    box: Box,
    edge: int,
    filter: str,
    colour: Colour | None,
) -> Thumbnail:
    """The thumbnail of a part of the picture, as if it were all there is."""
    size = Size(box[1] - box[0], box[3] - box[2])
    rgb, mask = Square(size, edge, 3, filter), Square(size, edge, 1, filter)
    _add(rgb, reader, box, colour)
    _add(mask, mask_reader, box)
    return Thumbnail(rgb.tensor(), mask.tensor(), size)


def _add(square: Square, reader: Reader, box: Box, colour: Colour | None = None) -> None:
    """Sum up a part of a picture: several windows at once where each is decoded by itself, else
    one is read while the last one is summed."""
    scale = 1 / full_scale(reader.depth)
    block = _block(reader)

    def part(window: Window, codes: np.ndarray | None = None) -> Part | None:
        codes = reader.read(window) if codes is None else codes
        flat = codes.reshape(*codes.shape[:2], -1)
        return square.part(flat, scale, window.top - box[0], colour, window.left - box[2])

    if block is None or (pool := workers()) is None:
        windows = _windows(reader.size, box, block or _rows(reader.size))
        with ahead(lambda window: (window, reader.read(window)), windows) as bands:
            for window, codes in bands:
                square.take(part(window, codes))
        return
    fitting = HELD_BYTES // (block.pixels * 3 * (reader.depth // 8) * 2)  # segments, and the window
    count = max(1, min(2 * torch.get_num_threads(), fitting))
    with pool, ahead(part, _windows(reader.size, box, block), pool, count - 1) as parts:
        for found in parts:
            square.take(found)


def _block(reader: Reader) -> Size | None:
    """Windows that are decoded by themselves: some of a TIFF's segments, or rows that lie in it as
    they are. None where windows share what is decoded."""
    page = getattr(reader, "page", None)
    if page is None or page.header.orientation != 1:
        return None
    if page.direct:
        return _rows(reader.size)
    segment = page.segment
    if segment.pixels * page.samples * page.dtype.itemsize > SEGMENT_BYTES:
        return None
    if page.tiled:
        return Size(segment.height, segment.width * max(1, READ_PIXELS // segment.pixels))
    return Size(segment.height * max(1, READ_PIXELS // segment.pixels), reader.size.width)


def _rows(size: Size) -> Size:
    return Size(max(1, min(size.height, READ_PIXELS // size.width)), size.width)


def _windows(size: Size, box: Box, block: Size) -> Iterator[Window]:
    """Blocks, counted from the picture's top left, as far as they lie in the box."""
    top, bottom, left, right = box
    for y in range(top // block.height * block.height, bottom, block.height):
        for x in range(left // block.width * block.width, right, block.width):
            yield Window(
                max(y, top),
                min(y + block.height, bottom),
                max(x, left),
                min(x + block.width, right),
                size,
            )
