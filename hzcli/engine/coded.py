"""Recolouring from code to code, for Transforms that know no place: curves and tables.

Pixels that the mask holds whole never become float: curves have the answer to every code ready,
and OpenColorIO, where it is installed, looks tables up. Of those that it holds in part, and of
these alone, the colour is taken as a number, blended, and rounded once. Pixels that it leaves
out keep their code.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch

from hzcli.core.curves import CODES, Curves
from hzcli.core.lut import Lut3D
from hzcli.core.transform import Transform

WHITE = 65535
STRIP = 32  # rows whose full columns are looked for together
FULL = bytes([1]) * 64  # columns that are worth a call of their own
AT_ONCE = 1 << 13  # gathered pixels
LARGEST_TABLE = 129  # nodes a side that OpenColorIO takes


class Coded(Protocol):
    """A Transform, weakened already, made ready for codes."""

    def whole(self, codes: np.ndarray, out: np.ndarray) -> None:
        """Codes (h, w, 3) uint8 or uint16, w even, to `out` uint16, which holds them, widened."""
        ...

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """Codes (N, 3) uint16 to colours (N, 3) float32, in [0, 65535]."""
        ...


def prepared(transform: Transform | None, strength: float) -> Coded | None:
    """A Transform as something that goes from code to code; None for those that need numbers."""
    if isinstance(transform, Curves):
        values = transform.even(CODES).knots[0].double().clamp(0, 1)
        source = torch.linspace(0, 1, CODES, dtype=torch.float64)
        values = source + strength * (values.cpu() - source)
        return _Curves(values.float().numpy()) if bool(values.isfinite().all()) else None
    if isinstance(transform, Lut3D) and transform.lut.shape[-1] <= LARGEST_TABLE:
        table = transform.lut[0].detach().float().cpu().permute(1, 2, 3, 0).numpy()
        # Clamping and weakening can change places only where there is nothing to clamp.
        plain = bool(np.isfinite(table).all()) and table.min() >= 0 and table.max() <= 1
        if plain or (strength == 1 and bool(np.isfinite(table).all())):
            axis = np.linspace(0, 1, len(table), dtype=np.float32)
            same = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)
            try:
                return _Table(same + np.float32(strength) * (table - same))
            except ImportError:
                return None
    return None


def recolour(codes: np.ndarray, rows: np.ndarray, mask: np.ndarray, coded: Coded) -> None:
    """Recolour rows of a picture.

    Args:
        codes: (h, W, 3) uint8 or uint16. rows: (h, W, 3) uint16, the same, widened; changed.
        mask: (h, W) uint8 or uint16.
    """
    for top in range(0, len(rows), STRIP):
        these = slice(top, top + STRIP)
        own = mask[these]
        # Maxima are found by vector instructions, and bytes are searched fastest.
        some = (own.max(axis=0) != 0).tobytes()
        left, right = some.find(1), some.rfind(1) + 1
        if left >= 0:
            part = np.s_[these, left:right]
            _strip(_side_by_side(codes[part]), rows[part], mask[part], coded)


def _strip(codes: np.ndarray, rows: np.ndarray, mask: np.ndarray, coded: Coded) -> None:
    """Divide a few rows into columns that are full, and others."""
    high = np.iinfo(mask.dtype).max
    full = (mask.min(axis=0) == high).tobytes()
    done, start = 0, full.find(FULL)
    while start >= 0:
        stop = full.find(0, start)
        stop = len(full) if stop < 0 else stop
        stop -= (stop - start) % 2
        _others(codes[:, done:start], rows[:, done:start], mask[:, done:start], coded)
        coded.whole(codes[:, start:stop], rows[:, start:stop])
        done, start = stop, full.find(FULL, stop)
    _others(codes[:, done:], rows[:, done:], mask[:, done:], coded)


def _others(codes: np.ndarray, rows: np.ndarray, mask: np.ndarray, coded: Coded) -> None:
    """Gather what a rectangle has in the mask."""
    if not mask.size:
        return
    high = np.iinfo(mask.dtype).max
    pixels = rows.view("V6")[..., 0]  # three codes, moved as one: ten times as fast
    full = mask == high
    partly = mask != 0
    partly ^= full
    for where, whole in ((full, True), (partly, False)):
        if not where.any():
            continue
        kept = pixels[where]
        gathered = kept.view(np.uint16).reshape(-1, 3)
        weight = None if whole else mask[where] * np.float32(1 / high)
        for start in range(0, len(gathered), AT_ONCE):
            part = gathered[start : start + AT_ONCE]
            new = coded.numbers(part)
            if weight is not None:
                old = part.astype(np.float32)
                new -= old
                # Channel by channel: numpy is slow at rows of three.
                for c in range(3):
                    new[:, c] *= weight[start : start + AT_ONCE]
                new += old
            new += np.float32(0.5)  # and cut off: the one rounding
            np.copyto(part, new, casting="unsafe")
        pixels[where] = kept


def _side_by_side(codes: np.ndarray) -> np.ndarray:
    """The same pixels without gaps in a row, and rows in order."""
    size = codes.itemsize
    if codes.strides[1:] == (3 * size, size) and codes.strides[0] > 0:
        return codes
    return np.ascontiguousarray(codes)


class _Curves:
    """A table for every code and channel; of 8-bit codes two at a time.

    A pixel has three codes, so pairs of codes come in three kinds: red and green, blue and red,
    green and blue.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._numbers = values * np.float32(WHITE)  # (3, 65536)
        self._codes = (self._numbers + np.float32(0.5)).astype(np.uint16)
        self._pairs: np.ndarray | None = None
        self._offsets = np.empty(0, np.intp)
        self._index = np.empty(0, np.intp)

    def whole(self, codes: np.ndarray, out: np.ndarray) -> None:
        source = codes.reshape(len(codes), -1)
        target = out.reshape(len(out), -1)
        table = self._codes.reshape(-1)
        if codes.dtype == np.uint8:
            source, target, table = source.view(np.uint16), target.view(np.uint32), self._paired()
        count = source.shape[1]
        if len(self._index) < count:
            # Three tables lie one behind the other.
            self._offsets = np.arange(count) % 3 * (WHITE + 1)
            self._index = np.empty(count, np.intp)
        offsets, index = self._offsets[:count], self._index[:count]
        for line, into in zip(source, target, strict=True):
            np.add(line, offsets, out=index)
            np.take(table, index, out=into, mode="clip")

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        out = np.empty(codes.shape, np.float32)
        for c in range(3):
            out[:, c] = self._numbers[c][codes[:, c]]
        return out

    def _paired(self) -> np.ndarray:
        """Two results, as one number of 32 bits, for each two codes of 8: (3 * 65536,)."""
        if self._pairs is None:
            first, second = np.arange(WHITE + 1, dtype=np.uint16).view(np.uint8).reshape(-1, 2).T
            short = self._codes[:, ::257]
            pairs = np.empty((3, WHITE + 1, 2), np.uint16)
            for kind, (one, two) in enumerate(((0, 1), (2, 0), (1, 2))):
                pairs[kind, :, 0] = short[one][first]
                pairs[kind, :, 1] = short[two][second]
            self._pairs = pairs.view(np.uint32).reshape(-1)
        return self._pairs


class _Table:
    """A three-dimensional table in OpenColorIO's hands, trilinear as networks are trained.

    Raises:
        ImportError: OpenColorIO is not installed.
    """

    def __init__(self, table: np.ndarray) -> None:
        import PyOpenColorIO

        ocio = PyOpenColorIO
        transform = ocio.Lut3DTransform(len(table))
        transform.setInterpolation(ocio.INTERP_LINEAR)
        transform.setData(np.ascontiguousarray(table, np.float32).ravel())
        processor = ocio.Config.CreateRaw().getProcessor(transform)
        codes, numbers = ocio.BIT_DEPTH_UINT16, ocio.BIT_DEPTH_F32
        exact = ocio.OPTIMIZATION_DEFAULT
        self._codes = processor.getOptimizedCPUProcessor(codes, codes, exact)
        self._numbers = processor.getOptimizedCPUProcessor(codes, numbers, exact)
        self._ocio = ocio

    def whole(self, codes: np.ndarray, out: np.ndarray) -> None:
        del codes
        self._codes.apply(self._image(out))

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        new = np.empty((1, len(codes), 3), np.float32)
        self._numbers.apply(self._image(np.ascontiguousarray(codes)[None]), self._image(new))
        new = new[0]
        new *= WHITE
        return np.clip(new, 0, WHITE, out=new)

    def _image(self, pixels: np.ndarray) -> Any:
        ocio, size = self._ocio, pixels.itemsize
        depth = ocio.BIT_DEPTH_UINT16 if size == 2 else ocio.BIT_DEPTH_F32
        order, (height, width) = ocio.CHANNEL_ORDERING_RGB, pixels.shape[:2]
        row = pixels.strides[0] if height > 1 else width * 3 * size
        return ocio.PackedImageDesc(pixels, width, height, order, depth, size, 3 * size, row)
