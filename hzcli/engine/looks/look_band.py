"""Rows of a picture recoloured by a look, in place: all of them, or the pixels inside a mask.

Pixels that the mask holds whole go from code to code: where they fill rectangles, in place,
elsewhere gathered and put back. Of those that it holds in part, and of these alone, the colour is
taken as a number, blended, and rounded once. Pixels that it leaves out keep their code.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

import numpy as np

from hzcli.core.tetra import WHITE

if TYPE_CHECKING:
    from hzcli.engine.looks.apply_look import Prepared

BLOCK_ROWS = 128  # by one thread
STRIP_ROWS = 32  # of which the columns with mask are looked for together
PIXEL = np.dtype("V6")  # three codes, moved as one: ten times as fast as (.., 3) by numpy's masks
FULL = bytes([1]) * 256  # columns of a strip that are worth a call of their own
GATHERED = 1 << 15  # pixels recoloured at once, so that a core's cache holds them
ROW = 2048  # of them to a row: OpenColorIO works row by row
BINS = 4096  # of the histogram of change: 16 to an 8-bit level


def recolour(
    rows: np.ndarray,
    mask: np.ndarray | None,
    prepared: Prepared,
    pool: Executor | None = None,
    change: np.ndarray | None = None,
    step: int = 1,
) -> None:
    """Apply a look to rows of a picture, in place.

    Args:
        rows: (h, W, 3) uint16, the source, and afterwards the result.
        mask: (h, W) uint8 or uint16, full scale inside; None: everywhere.
        pool: threads to share the work.
        change: counts of |result - source| where the mask is above 0, one bin to 16 codes,
            (BINS + 1,); of one row in `step`.
    """

    def work(top: int) -> np.ndarray | None:
        these = slice(top, top + BLOCK_ROWS)
        own = None if mask is None else mask[these]
        # The maximum is found by vector instructions; `any` looks at numbers one by one.
        if own is not None and own.max() == 0:
            return None
        return _block(rows[these], own, prepared, step if change is not None else 0)

    tops = range(0, len(rows), BLOCK_ROWS)
    for counts in map(work, tops) if pool is None else pool.map(work, tops):
        if counts is not None:
            change += counts


def _block(
    rows: np.ndarray, mask: np.ndarray | None, prepared: Prepared, step: int
) -> np.ndarray | None:
    """Recolour rows in place; counts of change, if `step` is not 0."""
    pixels = rows.view(PIXEL)[..., 0]
    seen: Any = None
    if step:
        inside = slice(None) if mask is None else mask[::step] != 0
        seen = pixels[::step][inside].copy()
    if mask is not None:
        _Inside(pixels, mask, prepared).recolour()
    elif prepared.weight == 1:
        prepared.recolouring.apply(rows, rows)
    else:
        for row in pixels:
            row[:] = _blended(row, np.float32(prepared.weight), prepared)
    if not step:
        return None
    before, after = (_codes(x).astype(np.int32) for x in (seen, pixels[::step][inside]))
    size = np.abs(after - before)
    return np.bincount((size + 8 >> 4).ravel(), minlength=BINS + 1)


def _codes(pixels: np.ndarray) -> np.ndarray:
    """Pixels (...) side by side, as codes (N, 3): the same memory."""
    return np.ascontiguousarray(pixels).view(np.uint16).reshape(-1, 3)


class _Inside:
    """The pixels of some rows that a mask holds."""

    def __init__(self, pixels: np.ndarray, mask: np.ndarray, prepared: Prepared) -> None:
        self.pixels, self.mask, self.prepared = pixels, mask, prepared
        self.top = np.iinfo(mask.dtype).max
        # (rectangle, where in it, its pixels) to be recoloured; to be blended, with weights.
        self.whole: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.partly: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.weights: list[np.ndarray] = []
        self.waiting = 0

    def recolour(self) -> None:
        for top in range(0, len(self.mask), STRIP_ROWS):
            self.strip(slice(top, top + STRIP_ROWS))
            if self.waiting >= GATHERED:
                self.flush()
        self.flush()
        if self.partly:
            sources = np.concatenate([kept for _, _, kept in self.partly])
            weights = np.concatenate(self.weights) * np.float32(self.prepared.weight / self.top)
            for start in range(0, len(sources), GATHERED):
                these = slice(start, start + GATHERED)
                sources[these] = _blended(sources[these], weights[these], self.prepared)
            _put_back(self.partly, sources)

    def strip(self, rows: slice) -> None:
        """Divide rows into columns that are full, and others. Bytes are searched fastest."""
        mask = self.mask[rows]
        some = (mask.max(axis=0) != 0).tobytes()
        left, end = some.find(1), some.rfind(1) + 1
        if left < 0:
            return
        if self.prepared.weight == 1:
            full = (mask[:, left:end].min(axis=0) == self.top).tobytes()
            start = full.find(FULL)
            while start >= 0:
                stop = full.find(0, start)
                stop = len(full) if stop < 0 else stop
                self.others(rows, left, left + start)
                part = self.pixels[rows, left + start : left + stop]
                codes = part.view(np.uint16).reshape(*part.shape, 3)
                self.prepared.recolouring.apply(codes, codes)
                left, full = left + stop, full[stop:]
                start = full.find(FULL)
        self.others(rows, left, end)

    def others(self, rows: slice, left: int, right: int) -> None:
        """Gather what a rectangle has in the mask."""
        if left == right:
            return
        pixels, mask = self.pixels[rows, left:right], self.mask[rows, left:right]
        some = mask != 0
        inside, whole = np.count_nonzero(some), 0
        if self.prepared.weight == 1:
            full = mask == self.top
            whole = np.count_nonzero(full)
        if whole:
            self.whole.append((pixels, full, pixels[full]))
            self.waiting += whole
            if inside > whole:
                np.logical_xor(some, full, out=some)
        if inside > whole:
            self.partly.append((pixels, some, pixels[some]))
            self.weights.append(mask[some])

    def flush(self) -> None:
        """Recolour what was gathered, and put it back."""
        if not self.whole:
            return
        count = -(-self.waiting // ROW) * ROW if self.waiting > ROW else self.waiting
        gathered = np.zeros(count, PIXEL)
        np.concatenate([kept for _, _, kept in self.whole], out=gathered[: self.waiting])
        codes = gathered.view(np.uint16).reshape(-1, min(ROW, count), 3)
        self.prepared.recolouring.apply(codes, codes)
        _put_back(self.whole, gathered)
        self.whole, self.waiting = [], 0


def _put_back(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], new: np.ndarray) -> None:
    start = 0
    for pixels, where, kept in parts:
        pixels[where] = new[start : start + len(kept)]
        start += len(kept)


def _blended(pixels: np.ndarray, weight: Any, prepared: Prepared) -> np.ndarray:
    """Pixels (N,) and the look's colours, mixed by weights, one or (N,): pixels."""
    codes = _codes(pixels)
    new = prepared.recolouring.colours(codes)
    np.clip(new, 0, WHITE, out=new)
    old = codes.astype(np.float32)
    new -= old
    # Channel by channel: numpy is slow at rows of three.
    for c in range(3):
        new[:, c] *= weight
    new += old
    new += np.float32(0.5)  # and cut off: the one rounding
    return new.astype(np.uint16, order="C").view(PIXEL)[:, 0]
