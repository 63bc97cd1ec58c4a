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
from hzcli.engine.reduction import FILTERS, Square, resize, weights

if TYPE_CHECKING:
    from hzcli.engine.colour import Colour

__all__ = [
    "FILTERS", "Reader", "Survey", "full_scale", "look", "make", "make_reference", "resize",
    "weights",
]  # fmt: skip

# Rows read at once hold about this many pixels. Fixed, not planned: the sums, and with them
# the network's answer, are the same whatever the memory allowed.
READ_PIXELS = 1 << 19


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
    lowest: smallest value of the mask, [0, 1].
    """

    thumbnail: Thumbnail
    box: tuple[int, int, int, int] | None
    foreground: float
    inside: int
    lowest: float


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
) -> Survey:
    """Pass one as a model asks for it by its attributes: see `stream.Predictor`."""
    edge, kind = predictor.thumbnail_edge, getattr(predictor, "thumbnail_filter", "area")
    closeup = getattr(predictor, "needs_closeup", False)
    mask_edges = getattr(predictor, "mask_edges", ())
    survey = make(
        reader, mask_reader, edge, kind, closeup=closeup, mask_edges=mask_edges, colour=colour
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
) -> Survey:
    """Reduce a picture and its mask to squares of `edge` pixels; the aspect is squashed.

    Args:
        reader: gives (h, w, 3) uint8, uint16 or float32. mask_reader: gives (h, w) codes, of the
            same size.
        edge: height and width of the thumbnail. filter: one of `FILTERS`.
        closeup: whether the box of the mask is read once more, for a thumbnail of its own.
        mask_edges: squares to which the mask is sampled as well, bilinearly.
        colour: how the picture's numbers become sRGB; None where they are.

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
    for window in _strips(size):
        codes = mask_reader.read(window)
        columns_high = codes.max(axis=0)
        columns_hit |= columns_high > 0
        rows_hit[window.top : window.bottom] = codes.max(axis=1) > 0
        lowest = min(lowest, int(codes.min()))
        if columns_high.any():  # else this band adds nothing to the mask
            total += _sum(codes)
            inside += int(np.count_nonzero(codes))
            for square in masks:
                square.add(codes[..., None], 1 / full, window.top)
        rgb.add(reader.read(window), 1 / full_scale(reader.depth), window.top, colour)
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
    return Survey(thumb, box, total / full / size.pixels, inside, lowest / full)


def make_reference(
    reader: Reader, edge: int, filter: str = "area", colour: Colour | None = None
) -> torch.Tensor:
    """Another picture, of any size, as the network sees it: (1, 3, edge, edge), [0, 1]."""
    rgb = Square(reader.size, edge, 3, filter)
    for window in _strips(reader.size):
        rgb.add(reader.read(window), 1 / full_scale(reader.depth), window.top, colour)
    return rgb.tensor()


def _sum(codes: np.ndarray) -> int:
    """Of whole numbers, without rounding; column by column, as vector instructions like it."""
    if len(codes) > 1 << 16:  # whose sums might not fit
        return int(codes.sum(dtype=np.uint64))
    return int(np.add.reduce(codes, axis=0, dtype=np.uint32).sum(dtype=np.uint64))


def _closeup(
    reader: Reader,
    mask_reader: Reader,
    box: tuple[int, int, int, int],
    edge: int,
    filter: str,
    colour: Colour | None,
) -> Thumbnail:
    """The thumbnail of a part of the picture, as if it were all there is."""
    top, bottom, left, right = box
    size = Size(bottom - top, right - left)
    rgb, mask = Square(size, edge, 3, filter), Square(size, edge, 1, filter)
    for window in _strips(reader.size, top, bottom):
        for square, source, own in ((rgb, reader, colour), (mask, mask_reader, None)):
            codes = source.read(window)[:, left:right]
            codes = codes.reshape(*codes.shape[:2], -1)
            square.add(codes, 1 / full_scale(source.depth), window.top - top, own)
    return Thumbnail(rgb.tensor(), mask.tensor(), size)


def _strips(size: Size, top: int = 0, bottom: int | None = None) -> Iterator[Window]:
    """Full-width windows of rows [top, bottom), as high as is read at once."""
    bottom = size.height if bottom is None else bottom
    height = max(1, min(size.height, READ_PIXELS // size.width))
    for start in range(top, bottom, height):
        yield Window(start, min(start + height, bottom), 0, size.width, size)
