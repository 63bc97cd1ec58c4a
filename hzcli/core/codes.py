"""From 16-bit codes to 16-bit codes: curves, and tables in OpenColorIO's hands.

`CodedLook` in tetra.py does the same for tables with numpy alone. All of them may be shared by
threads: a thread has work arrays of its own.

Curves have the answer to every code ready; tables are looked up by OpenColorIO.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided

WHITE = 65535
BLOCK = 1 << 14  # pixels at once, so that a core's cache holds all steps
STEP = 2048  # pixels, of which OpenColorIO is given whole multiples
LARGEST_TABLE = 129  # nodes a side that OpenColorIO takes


class Coded(Protocol):
    """A recolouring that knows no place, made ready for codes."""

    def apply(self, codes: np.ndarray, out: np.ndarray) -> None:
        """Codes (h, w, 3) uint16 to codes in `out`, or in place; either may be part of a larger
        picture, with pixels side by side in a row."""
        ...

    def colours(self, codes: np.ndarray) -> np.ndarray:
        """Codes (N, 3) uint16 to numbers in codes (N, 3) float32, neither rounded nor clamped."""
        ...


def blocks(height: int, width: int, most: int) -> list[tuple[slice, slice]]:
    """A rectangle in parts of `most` pixels at most: rows, as many as there is room for."""
    rows, columns = max(1, most // max(1, width)), min(most, width)
    return [
        (slice(top, min(top + rows, height)), slice(left, min(left + columns, width)))
        for top in range(0, height, rows)
        for left in range(0, width, columns)
    ]


class CodedCurves:
    """A table for every code and channel; of 8-bit codes two at a time.

    A pixel has three codes, so pairs of codes come in three kinds: red and green, blue and red,
    green and blue.

    Args:
        values: (3, 65536), what becomes of each code, 1 for white; any numbers.
    """

    def __init__(self, values: np.ndarray) -> None:
        self._numbers = np.asarray(values * np.float64(WHITE), np.float32)
        held = np.clip(self._numbers + np.float32(0.5), 0, WHITE)
        self._codes = held.astype(np.uint16)
        self._pairs: np.ndarray | None = None
        self._own = threading.local()

    def apply(self, codes: np.ndarray, out: np.ndarray) -> None:
        """As `Coded.apply`; codes may be uint8 too, where `out` is still uint16, and w is even."""
        table = self._codes.reshape(-1)
        if codes.dtype == np.uint8:
            codes, out = codes.reshape(len(codes), -1), out.reshape(len(out), -1)
            codes, out, table = codes.view(np.uint16), out.view(np.uint32), self._paired()
        else:
            codes, out = (x.reshape(len(x), -1) for x in (codes, out))
        index, low, room = self._work()
        for part in blocks(*codes.shape, len(index)):
            source, target = codes[part], out[part]
            count = source.size
            low[:count].reshape(source.shape)[...] = source
            # Beyond the table there is nothing: "wrap" is the fastest to check that.
            if target.flags.c_contiguous:
                np.take(table, index[:count], out=target.reshape(-1), mode="wrap")
            else:
                found = room.view(out.dtype)[:count]
                np.take(table, index[:count], out=found, mode="wrap")
                target[...] = found.reshape(target.shape)

    def colours(self, codes: np.ndarray) -> np.ndarray:
        """As `Coded.colours`."""
        out = np.empty((3, len(codes)), np.float32)
        for c in range(3):
            out[c] = self._numbers[c][codes[:, c]]
        return out.T

    def _work(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices into three tables one behind the other, a view of what differs from code to
        code (the lowest 16 bits), and room for what is found."""
        if not hasattr(self._own, "arrays"):
            index = (np.arange(3 * BLOCK) % 3).astype(np.int64) << 16
            lowest = 0 if np.little_endian else 3
            low = index.view(np.uint16)[lowest::4]
            self._own.arrays = index, low, np.empty(3 * BLOCK, np.uint32)
        return self._own.arrays

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


class OcioTable:
    """A table of colours in OpenColorIO's hands, behind curves if need be.

    OpenColorIO works on float32 by fours, and converts what it is given otherwise one by one.
    Here a pixel's codes and one of the next are moved as one, and converted all at once: a tenth
    faster.

    Args:
        table: (n, n, n, 3), indexed [r][g][b], n up to LARGEST_TABLE.
        interpolation: "tetrahedral" or "trilinear".
        shaped: (65536, 3), what each code becomes before the table, [0, 1] (cut off there).

    Raises:
        ImportError: OpenColorIO is not installed.
    """

    def __init__(
        self, table: np.ndarray, interpolation: str, shaped: np.ndarray | None = None
    ) -> None:
        import PyOpenColorIO as ocio  # noqa: N813

        self._ocio = ocio
        self._own = threading.local()
        self._within = bool(table.min() >= 0 and table.max() <= 1)
        chain = ocio.GroupTransform()
        if shaped is not None:
            curves = ocio.Lut1DTransform(len(shaped), False)
            curves.setData(np.clip(shaped, 0, 1).astype(np.float32).ravel())
            chain.appendTransform(curves)
        cube = ocio.Lut3DTransform(len(table))
        kinds = {"tetrahedral": ocio.INTERP_TETRAHEDRAL, "trilinear": ocio.INTERP_LINEAR}
        cube.setInterpolation(kinds[interpolation])
        # To codes, and half a code more: cutting off is rounding then.
        cube.setData((table * np.float64(WHITE) + 0.5).astype(np.float32).ravel())
        chain.appendTransform(cube)
        processor = ocio.Config.CreateRaw().getProcessor(chain)
        numbers = ocio.BIT_DEPTH_F32
        self._processor = processor.getOptimizedCPUProcessor(
            numbers, numbers, ocio.OPTIMIZATION_DEFAULT
        )

    def apply(self, codes: np.ndarray, out: np.ndarray) -> None:
        """As `Coded.apply`."""
        into = _lapped(out)
        for (rows, columns), fours, new in self._looked_up(codes):
            if not self._within:
                np.clip(new, 0, WHITE, out=new)
            np.copyto(fours, new, casting="unsafe")
            # From left to right: each puts right what the one before spilled.
            last = columns.stop - 1
            into[rows, columns.start : last] = fours.view(np.uint64)[:, :-1, 0]
            out[rows, last] = fours[:, -1, :3]

    def colours(self, codes: np.ndarray) -> np.ndarray:
        """As `Coded.colours`."""
        out = np.empty(codes.shape, np.float32)
        for (_, pixels), _, new in self._looked_up(codes[None]):
            np.subtract(new[0, :, :3], 0.5, out=out[pixels])
        return out

    def _looked_up(
        self, codes: np.ndarray
    ) -> Iterator[tuple[tuple[slice, slice], np.ndarray, np.ndarray]]:
        """Codes (h, w, 3) part by part.

        Yields:
            Which part; room for it as codes, (p, q, 4) uint16; its colours in codes and half a
            code more, and anything as a fourth, (p, q, 4) float32.
        """
        if not hasattr(self._own, "arrays"):
            self._own.arrays = np.zeros((BLOCK, 4), np.uint16), np.zeros((BLOCK, 4), np.float32)
            self._own.images = {}
        images, lapped = self._own.images, _lapped(codes)
        for rows, columns in blocks(codes.shape[0], codes.shape[1], BLOCK):
            shape = (rows.stop - rows.start, columns.stop - columns.start, 4)
            count = shape[0] * shape[1]
            fours, numbers = (x[:count].reshape(shape) for x in self._own.arrays)
            last = columns.stop - 1
            fours.view(np.uint64)[:, :-1, 0] = lapped[rows, columns.start : last]
            fours[:, -1, :3] = codes[rows, last]
            np.copyto(numbers, fours)
            numbers *= np.float32(1 / WHITE)
            # To describe memory takes as long as a thousand pixels: few sizes, described once.
            count = min(BLOCK, -(-count // STEP) * STEP)
            if count not in images:
                images[count] = self._ocio.PackedImageDesc(self._own.arrays[1][:count], count, 1, 4)
            self._processor.apply(images[count])
            yield (rows, columns), fours, numbers


def _lapped(codes: np.ndarray) -> np.ndarray:
    """Codes (h, w, 3) as numbers of 64 bits (h, w - 1): those of a pixel and one of the next."""
    height, width = codes.shape[:2]
    assert codes.strides[1:] == (6, 2), "pixels of a row lie side by side"
    shape, strides = (height, max(width - 1, 0), 4), (codes.strides[0], 6, 2)
    return as_strided(codes, shape, strides).view(np.uint64)[..., 0]


def ocio_version() -> str | None:
    """The version of OpenColorIO; None where it is not installed."""
    try:
        import PyOpenColorIO
    except ImportError:
        return None
    return PyOpenColorIO.GetVersion()
