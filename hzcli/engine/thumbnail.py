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
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from hzcli.core.transform import Thumbnail
from hzcli.core.window import Size, Window

if TYPE_CHECKING:
    from hzcli.engine.colour import Colour

# Rows read at once hold about this many pixels. Fixed, not planned: the sums, and with them
# the network's answer, are the same whatever the memory allowed.
READ_PIXELS = 1 << 19
FILTERS = ("area", "bilinear", "triangle")


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
    rgb = _Square(size, edge, 3, filter)
    masks = [_Square(size, edge, 1, filter), *(_Square(size, e, 1, "bilinear") for e in mask_edges)]
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
            total += int(codes.sum(dtype=np.uint64))
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
    rgb = _Square(reader.size, edge, 3, filter)
    for window in _strips(reader.size):
        rgb.add(reader.read(window), 1 / full_scale(reader.depth), window.top, colour)
    return rgb.tensor()


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
    rgb, mask = _Square(size, edge, 3, filter), _Square(size, edge, 1, filter)
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


class _Square:
    """A picture of `size`, summed up to a square of `edge` pixels as its rows come."""

    def __init__(self, size: Size, edge: int, channels: int, filter: str) -> None:
        self._height, self._filter = size.height, filter
        self._sums = np.zeros((edge, channels, edge), np.float32)
        across = weights(size.width, edge, filter)  # (edge, W)
        # Samples leave most pixels out: so then does the conversion to float.
        used = np.flatnonzero(across.any(axis=0))
        self._columns = None if 2 * len(used) > size.width else used
        self._across = (across if self._columns is None else across[:, used]).T
        self._buffer = np.empty(0, np.float32)

    def add(self, codes: np.ndarray, scale: float, top: int, colour: Colour | None = None) -> None:
        """Rows (h, W, c) from row `top` on, times `scale`, then as `colour` shows them."""
        down, first = _weights_of_rows(
            self._height, len(self._sums), top, top + len(codes), self._filter
        )
        rows = np.flatnonzero(down.any(axis=0))
        if 2 * len(rows) <= len(codes):
            codes, down = codes[rows], np.ascontiguousarray(down[:, rows])
        if self._columns is not None:
            codes = codes[:, self._columns]
        if not codes.size or not len(down):
            return
        if self._buffer.size < codes.size:
            self._buffer = np.empty(codes.size, np.float32)
        values = self._buffer[: codes.size].reshape(codes.shape)
        np.multiply(codes, np.float32(scale), out=values, dtype=np.float32)
        if colour is not None:
            colour.shown_rows(values, codes.dtype)
        elif codes.dtype == np.float32:
            np.nan_to_num(values.clip(0, 1, out=values), copy=False)
        # Rows first: that is the large reduction, and it leaves the columns contiguous.
        part = _product(down, values.reshape(len(codes), -1)).reshape(-1, *codes.shape[1:])
        self._sums[first : first + len(down)] += _product(part.transpose(0, 2, 1), self._across)

    def tensor(self) -> torch.Tensor:
        """(1, c, edge, edge)."""
        return torch.from_numpy(np.ascontiguousarray(self._sums.transpose(1, 0, 2)))[None]


def resize(array: np.ndarray, height: int, width: int, filter: str = "area") -> np.ndarray:
    """The same for a picture in memory, each axis by itself.

    Args:
        array: (h, w, c), any real type; its scale is kept.

    Returns:
        (height, width, c) float32.
    """
    down = weights(array.shape[0], height, filter)
    across = weights(array.shape[1], width, filter)
    values = array.astype(np.float32)
    part = _product(down, values.reshape(len(array), -1)).reshape(height, *array.shape[1:])
    return np.ascontiguousarray(_product(part.transpose(0, 2, 1), across.T).transpose(0, 2, 1))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b by torch, whose threads sleep while they wait; those of numpy's BLAS spin."""
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()


def weights(source: int, target: int, filter: str = "area") -> np.ndarray:
    """How much each of `source` pixels in a line adds to each of `target`.

    By area, a target pixel is a box of source / target pixels and counts the part of each that
    it covers. Growing, the box would be narrower than a pixel and the picture a staircase:
    neighbours are mixed by the distance of the pixel centres instead, held at the border, which
    is what all three filters do then.

    Returns:
        (target, source) float32; rows add up to 1.
    """
    return _weights_of_rows(source, target, 0, source, filter)[0]


def _weights_of_rows(
    source: int, target: int, start: int, stop: int, filter: str = "area"
) -> tuple[np.ndarray, int]:
    """The columns [start, stop) of `weights`, without the rows that are 0 above and below.

    Returns:
        (rows, stop - start) float32, and the index of the first row kept.
    """
    assert filter in FILTERS, f"there is no filter {filter!r}"
    pixel = np.arange(start, stop)
    if filter == "area" and source >= target:
        # Whole numbers up to the division, so that no part is lost to rounding: all borders
        # are multiples of 1 / target.
        first, last = start * target // source, -(-stop * target // source)
        cell = np.arange(first, last)[:, None]
        right = np.minimum((cell + 1) * source, (pixel + 1) * target)
        left = np.maximum(cell * source, pixel * target)
        return (np.maximum(right - left, 0) / source).astype(np.float32), first
    step = source / target
    wide = filter == "triangle" and step > 1
    # Targets whose hats, `step` or one pixel wide on each side, can reach these pixels.
    reach = step if wide else 1.0
    first = min(max(int((start - reach) / step - 1), 0), target)
    last = max(min(int((stop + reach) / step + 2), target), first)
    if start == 0:
        first = 0
    if stop == source:
        last = target
    centre = (np.arange(first, last)[:, None] + 0.5) * step - 0.5
    if wide:
        hats = (
            np.maximum(1 - np.abs(centre - pixel) / step, 0)
            / _hat_sums(source, target)[first:last, None]
        )
    else:
        hats = np.maximum(1 - np.abs(centre.clip(0, source - 1) - pixel), 0)
    return hats.astype(np.float32), first


@lru_cache(maxsize=8)
def _hat_sums(source: int, target: int) -> np.ndarray:
    """What the hats of "triangle" add up to: less at the border, where they are cut. (target,)"""
    step = source / target
    centre = (np.arange(target)[:, None] + 0.5) * step - 0.5
    pixel = np.floor(centre - step) + np.arange(int(2 * step) + 3)
    hats = np.maximum(1 - np.abs(centre - pixel) / step, 0)
    return np.where((pixel >= 0) & (pixel < source), hats, 0).sum(axis=1)
