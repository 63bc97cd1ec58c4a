"""Recolouring from code to code: rows of a picture, all of them or the pixels inside a mask.

For what knows no place: curves and tables that a model predicts, and looks. A native kernel takes
large pictures, where there is one. Else, pixels that the mask holds whole never become float here:
where they fill rectangles, they are recoloured in place, elsewhere gathered and put back. Of those
that it holds in part, and of these alone, the colour is taken as a number, blended, and rounded
once. Pixels that it leaves out keep their code.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING

import numpy as np

from hzcli.core import native as kernels
from hzcli.core.codes import LARGEST_TABLE, WHITE, Coded, CodedCurves, OcioTable, widen
from hzcli.core.sharing import shared
from hzcli.core.tetra import UNIT, CodedLook

if TYPE_CHECKING:
    from hzcli.core.grid_codes import GridCodes
    from hzcli.core.transform import Transform
    from hzcli.core.window import Size

STRIP = 32  # rows of which the columns with mask are looked for together
SHARED = 4 * STRIP  # rows that a thread takes at a time ..
SHARED_NATIVE = 2 * SHARED  # .. by a kernel
FILLED = 2 * STRIP  # .. and that are still in a core's cache when they were copied there
FULL = bytes([1]) * 64  # columns of a strip that are worth a call of their own
GATHERED = 1 << 15  # pixels recoloured at once, so that a core's cache holds them
PIXEL = np.dtype("V6")  # three codes, moved as one: ten times as fast as (.., 3) by numpy's masks


def prepared(
    transform: Transform | None, strength: float, size: Size | None = None
) -> Coded | GridCodes | None:
    """A Transform as something that goes from code to code; None for those that need numbers.

    Args:
        size: of the picture, which may be too small for what there is.
    """
    from hzcli.core.affine import AffineMap
    from hzcli.core.affine_codes import CodedMaps
    from hzcli.core.curve_codes import CodedCurveMaps
    from hzcli.core.curves import CODES, Curves
    from hzcli.core.lut import Lut3D
    from hzcli.models.aict.intervals import IntervalMap

    if isinstance(transform, IntervalMap):
        curves = transform.knots[0].detach(), transform.levels[0].detach()
        finite = all(bool(one.isfinite().all()) for one in curves)
        if not finite or size is None or not is_large(size) or not kernels.kernel("curve maps"):
            return None
        return CodedCurveMaps(*curves, transform.align_corners, strength)
    if isinstance(transform, AffineMap):
        finite = bool(transform.maps.isfinite().all())
        return CodedMaps(transform, strength) if finite else None
    if isinstance(transform, Curves):
        values = transform.even(CODES).knots[0].double().cpu().numpy().clip(0, 1)
        if strength != 1:
            source = np.linspace(0, 1, CODES)
            values = source + strength * (values - source)
        return CodedCurves(values) if np.isfinite(values).all() else None
    if isinstance(transform, Lut3D) and transform.lut.shape[-1] <= LARGEST_TABLE:
        table = transform.lut[0].detach().float().cpu().permute(1, 2, 3, 0).numpy()
        # Clamping and weakening can change places only where there is nothing to clamp.
        plain = bool(np.isfinite(table).all()) and table.min() >= 0 and table.max() <= 1
        if plain or (strength == 1 and bool(np.isfinite(table).all())):
            axis = np.linspace(0, 1, len(table), dtype=np.float32)
            same = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
            table = same + np.float32(strength) * (table - same)
            try:
                return OcioTable(table, "trilinear")
            except ImportError:
                # Where only numpy is left, torch is faster.
                native = size is not None and is_large(size) and kernels.kernel("trilinear")
                return CodedLook(table, None, UNIT, "trilinear") if native else None
    return None


def is_large(size: Size) -> bool:
    """Whether a picture is worth a native kernel."""
    return size.pixels >= kernels.LEAST


def recolour(
    rows: np.ndarray,
    mask: np.ndarray | None,
    coded: Coded,
    weight: float = 1.0,
    codes: np.ndarray | None = None,
    pool: Executor | None = None,
    large: bool = False,
) -> None:
    """Recolour rows of a picture.

    Args:
        rows: (h, W, 3) uint16, the source, and afterwards the result; pixels side by side.
        mask: (h, W) uint8 or uint16, full scale inside; None: everywhere.
        weight: share of the new colour in a pixel that the mask holds whole.
        codes: (h, W, 3) uint8 or uint16, the source as it was read; then `rows` need not hold it.
        pool: threads to share the work; they change no byte.
        large: whether the picture is, see `is_large`.
    """
    native = coded.native if large else None
    short = codes if codes is not None and codes.itemsize == 1 else None
    if not isinstance(coded, CodedCurves):  # which are faster at 8 bits
        short = None

    def work(part: slice) -> None:
        if codes is not None:
            widen(codes[part], rows[part])
        own, brief = (None if x is None else x[part] for x in (mask, short))
        if native is not None:
            native.recolour(rows[part], own, weight)
            return
        _Rows(rows[part], own, coded, weight, brief).recolour()

    step = len(rows) if pool is None else SHARED
    if native is not None:
        step = FILLED if codes is not None else SHARED_NATIVE
    shared(work, [slice(y, y + step) for y in range(0, len(rows), max(1, step))], pool)


class _Rows:
    """Some rows, and what is to be done with their pixels."""

    def __init__(
        self,
        rows: np.ndarray,
        mask: np.ndarray | None,
        coded: Coded,
        weight: float,
        short: np.ndarray | None,
    ) -> None:
        self.rows, self.mask, self.coded, self.weight = rows, mask, coded, weight
        self.short = short
        self.pixels = rows.view(PIXEL)[..., 0]
        self.top = 1 if mask is None else np.iinfo(mask.dtype).max
        # Gathered: (rectangle, where in it, its pixels), and what the mask says of them.
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.held: list[np.ndarray] = []
        self.waiting = 0

    def recolour(self) -> None:
        if self.mask is None and self.weight == 1:
            self.filled(slice(None), 0, self.rows.shape[1])
            return
        for top in range(0, len(self.rows), STRIP):
            self.strip(slice(top, top + STRIP))
            if self.waiting >= GATHERED:
                self.flush()
        self.flush()

    def strip(self, rows: slice) -> None:
        """Divide rows into columns that are full, and others."""
        if self.mask is None:
            pixels = self.pixels[rows]
            self.gather(pixels, np.ones(pixels.shape, np.uint8))
            return
        mask = self.mask[rows]
        # Maxima are found by vector instructions, and bytes are searched fastest.
        some = (mask.max(axis=0) != 0).tobytes()
        left, end = some.find(1), some.rfind(1) + 1
        if left < 0:
            return
        if self.weight == 1:
            full = (mask[:, left:end].min(axis=0) == self.top).tobytes()
            begin, start = left, full.find(FULL)
            while start >= 0:
                stop = full.find(0, start)
                stop = len(full) if stop < 0 else stop
                stop -= (stop - start) % 2  # for 8-bit codes, which go in pairs
                self.gather(self.pixels[rows, left : begin + start], mask[:, left : begin + start])
                self.filled(rows, begin + start, begin + stop)
                left, start = begin + stop, full.find(FULL, stop)
        self.gather(self.pixels[rows, left:end], mask[:, left:end])

    def filled(self, rows: slice, left: int, right: int) -> None:
        """A rectangle that the mask holds whole."""
        codes = out = self.rows[rows, left:right]
        if self.short is not None and (right - left) % 2 == 0:
            short = self.short[rows, left:right]
            codes = short if short.strides[1:] == (3, 1) else codes
        self.coded.apply(codes, out)

    def gather(self, pixels: np.ndarray, mask: np.ndarray) -> None:
        """What a rectangle has in the mask."""
        where = mask != 0
        held = mask[where]
        if len(held):
            self.parts.append((pixels, where, pixels[where]))
            self.held.append(held)
            self.waiting += len(held)

    def flush(self) -> None:
        """Recolour what was gathered, and put it back."""
        if not self.parts:
            return
        pixels, held = (
            np.concatenate([kept for _, _, kept in self.parts]),
            np.concatenate(self.held),
        )
        for start in range(0, len(pixels), GATHERED):
            self.mix(pixels[start : start + GATHERED], held[start : start + GATHERED])
        start = 0
        for into, where, kept in self.parts:
            into[where] = pixels[start : start + len(kept)]
            start += len(kept)
        self.parts, self.held, self.waiting = [], [], 0

    def mix(self, pixels: np.ndarray, held: np.ndarray) -> None:
        """Recolour pixels (N,) in place as far as the mask (N,), above 0, holds them."""
        whole = held == self.top if self.weight == 1 else np.zeros(len(held), bool)
        count = np.count_nonzero(whole)
        if count:
            kept = pixels if count == len(pixels) else pixels[whole]
            codes = _codes(kept)[None]
            self.coded.apply(codes, codes)
            if count == len(pixels):
                return
            pixels[whole] = kept
        partly = np.logical_not(whole, out=whole)
        kept = pixels[partly]
        _blend(_codes(kept), held[partly] * np.float32(self.weight / self.top), self.coded)
        pixels[partly] = kept


def _codes(pixels: np.ndarray) -> np.ndarray:
    """Pixels (N,) side by side, as codes (N, 3): the same memory."""
    return pixels.view(np.uint16).reshape(-1, 3)


def _blend(codes: np.ndarray, weight: np.ndarray, coded: Coded) -> None:
    """Mix codes (N, 3) with what becomes of them, by weights (N,), in place."""
    colours = coded.colours(codes)
    for c in range(3):  # numpy is slow at rows of three
        new = np.clip(colours[:, c], 0, WHITE)
        old = codes[:, c].astype(np.float32)
        new -= old
        new *= weight
        new += old
        new += np.float32(0.5)  # and cut off: the one rounding
        np.copyto(codes[:, c], new, casting="unsafe")
