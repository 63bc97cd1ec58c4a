"""Pictures reduced to squares: one matrix for rows and one for columns, band by band.

A thumbnail's pixel depends on few of a line's pixels, so most of a matrix is 0: it is made, and
multiplied, in parts. Colours become float a few rows at a time, while a core's cache holds them:
that conversion, not the sums, is most of the work. Where the sums are means of codes, they are
added up as whole numbers instead, see `boxes`.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch

from hzcli.core.window import Size
from hzcli.engine.boxes import box_sums, runs

if TYPE_CHECKING:
    from hzcli.engine.colour import Colour

FILTERS = ("area", "bilinear", "triangle")
# Numbers that are converted at once: 1 MB. Fixed, so that the sums' order is.
CONVERTED = 1 << 18
# Pixels along a box's edge from which on whole numbers are the faster sums.
LEAST = 3
# Target columns whose weights are one matrix.
TOGETHER = 16


@dataclass(frozen=True)
class Part:
    """What some of a picture's pixels add to a square: (rows, c, columns) from (top, left) on."""

    top: int
    left: int
    sums: np.ndarray


class Square:
    """A picture of `size`, summed up to a square of `edge` pixels as its parts come."""

    def __init__(self, size: Size, edge: int, channels: int, filter: str) -> None:
        self._height, self._width, self._edge, self._filter = size.height, size.width, edge, filter
        # Parts may come in any order: in float64 that is not seen.
        self._sums = np.zeros((edge, channels, edge))
        self._boxes = filter == "area" and LEAST * edge <= min(size.height, size.width)
        self._held = threading.local()

    def take(self, part: Part | None) -> None:
        """Add what `part` gave."""
        if part is not None:
            rows, _, columns = part.sums.shape
            at = self._sums[part.top : part.top + rows, :, part.left : part.left + columns]
            at += part.sums

    def part(
        self,
        codes: np.ndarray,
        scale: float,
        top: int,
        colour: Colour | None = None,
        left: int = 0,
    ) -> Part | None:
        """What pixels (h, w, c) from row `top` and column `left` on, times `scale`, then as
        `colour` shows them, add; None for nothing. Several threads may ask at once."""
        height, (width, channels) = len(codes), codes.shape[1:]
        if colour is None and codes.dtype.kind == "u" and self._boxes and codes.size:
            lines = runs(self._height, self._edge, top, top + height)
            places = runs(self._width, self._edge, left, left + width)
            return Part(lines.first, places.first, box_sums(codes, lines, places) * scale)
        down, first = weights_of(self._height, self._edge, top, top + height, self._filter)
        rows = np.flatnonzero(down.any(axis=0))
        if 2 * len(rows) <= height:
            codes, down = codes[rows], down[:, rows]
        # Samples leave most columns out: so then does the conversion to float.
        columns, parts = _parts(self._width, self._edge, left, left + width, self._filter)
        if columns is not None:
            codes = codes[:, columns]
            width = codes.shape[1]
        if not codes.size or not len(down):
            return None
        part = torch.zeros(len(down), width * channels)
        at_once = max(1, CONVERTED // (width * channels))
        buffer = self._buffer(min(at_once, len(codes)) * width * channels)
        for start in range(0, len(codes), at_once):
            few = codes[start : start + at_once]
            values = buffer[: few.size].reshape(few.shape)
            np.multiply(few, np.float32(scale), out=values, dtype=np.float32)
            if colour is not None:
                colour.shown_rows(values, codes.dtype)
            elif codes.dtype == np.float32:
                np.nan_to_num(values.clip(0, 1, out=values), copy=False)
            share = down[:, start : start + at_once]
            hit = np.flatnonzero(share.any(axis=1))
            if len(hit):
                here = slice(int(hit[0]), int(hit[-1]) + 1)
                flat = torch.from_numpy(values.reshape(len(few), -1))
                part[here].addmm_(torch.from_numpy(np.ascontiguousarray(share[here])), flat)
        # Rows first: that is the large reduction.
        flat = part.view(-1, width, channels).transpose(1, 2).reshape(-1, width)
        sums, low = _across(flat, parts)
        return Part(first, low, sums.view(len(down), channels, -1).numpy())

    def _buffer(self, count: int) -> np.ndarray:
        """Numbers that belong to this thread."""
        if getattr(self._held, "numbers", np.empty(0)).size < count:
            self._held.numbers = np.empty(count, np.float32)
        return self._held.numbers

    def tensor(self) -> torch.Tensor:
        """(1, c, edge, edge) float32."""
        whole = self._sums.transpose(1, 0, 2).astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(whole))[None]


# Weights of some of a line's pixels: [start, stop) of those that are used, the first target that
# they add to, and (stop - start, targets).
_Part = tuple[int, int, int, torch.Tensor]


@lru_cache(maxsize=64)
def _parts(
    source: int, target: int, left: int, right: int, filter: str
) -> tuple[np.ndarray | None, list[_Part]]:
    """`weights` of the columns [left, right) in parts, transposed; and the columns that are used,
    counted from `left`, None for all of them."""
    step = max(1, -(-source * TOGETHER // target))
    found = [
        (start, *weights_of(source, target, start, min(start + step, right), filter))
        for start in range(left, right, step)
    ]
    used = [start - left + np.flatnonzero(share.any(axis=0)) for start, share, _ in found]
    columns = np.concatenate(used)
    sampled = 2 * len(columns) <= right - left
    parts, begin = [], 0
    for (start, share, first), kept in zip(found, used, strict=True):
        if sampled:
            share = share[:, kept - (start - left)]
        end = begin + share.shape[1]
        if share.size:
            parts.append((begin, end, first, torch.from_numpy(np.ascontiguousarray(share.T))))
        begin = end
    return columns if sampled else None, parts


def _across(lines: torch.Tensor, parts: list[_Part]) -> tuple[torch.Tensor, int]:
    """Lines (n, used pixels) times `_parts`: (n, targets), and the first of these."""
    low = parts[0][2]
    high = max(first + share.shape[1] for *_, first, share in parts)
    out = torch.zeros(len(lines), high - low)
    for start, stop, first, share in parts:
        # Summed by itself, then added: of small numbers added to a large one, more is lost.
        out[:, first - low : first - low + share.shape[1]] += lines[:, start:stop] @ share
    return out, low


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
    columns = np.ascontiguousarray(part.transpose(0, 2, 1)).reshape(-1, array.shape[1])
    small = _product(columns, np.ascontiguousarray(across.T)).reshape(height, -1, width)
    return np.ascontiguousarray(small.transpose(0, 2, 1))


def _product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b by torch, whose threads sleep while they wait; those of numpy's BLAS spin."""
    return (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()


def weights(source: int, target: int, filter: str = "area") -> np.ndarray:
    """How much each of `source` pixels in a line adds to each of `target`.

    By area, a target pixel is a box of source / target pixels and counts the part of each that
    it covers. Growing, that makes a staircase, which keeps a picture's colours: networks that
    were shown sharp pictures read more from it than from a smooth one. The other two then mix
    neighbours by the distance of the pixel centres, held at the border.

    Returns:
        (target, source) float32; rows add up to 1.
    """
    return weights_of(source, target, 0, source, filter)[0]


def weights_of(
    source: int, target: int, start: int, stop: int, filter: str = "area"
) -> tuple[np.ndarray, int]:
    """The columns [start, stop) of `weights`, without the rows that are 0 above and below.

    Returns:
        (rows, stop - start) float32, and the index of the first row kept.
    """
    assert filter in FILTERS, f"there is no filter {filter!r}"
    pixel = np.arange(start, stop)
    if filter == "area":
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
