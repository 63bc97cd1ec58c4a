"""From 16-bit codes to 16-bit codes: curves, and tables in OpenColorIO's hands.

`CodedLook` in tetra.py does the same for tables with numpy alone. All of them may be shared by
threads: a thread has work arrays of its own.

Curves have the answer to every code ready; tables are looked up by OpenColorIO.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from hzcli.core.native import Native

WHITE = 65535
BLOCK = 1 << 14  # pixels at once, so that a core's cache holds all steps
STEP = 256  # pixels, of which OpenColorIO is given whole multiples
LARGEST_TABLE = 129  # nodes a side that OpenColorIO takes


def widen(codes: np.ndarray, out: np.ndarray) -> None:
    """Codes of 8 or 16 bits as those of 16: 8-bit codes times 257, which takes 0..255 to 0..65535
    exactly."""
    if codes.dtype == np.uint8:
        np.multiply(codes, np.uint16(257), out=out, dtype=np.uint16)
    else:
        np.copyto(out, codes)


class Coded(Protocol):
    """A recolouring that knows no place, made ready for codes."""

    def apply(self, codes: np.ndarray, out: np.ndarray) -> None:
        """Codes (h, w, 3) uint16 to codes in `out`, or in place; either may be part of a larger
        picture, with pixels side by side in a row."""
        ...

    def colours(self, codes: np.ndarray) -> np.ndarray:
        """Codes (N, 3) uint16 to numbers in codes (N, 3) float32, neither rounded nor clamped."""
        ...

    @property
    def native(self) -> Native | None:
        """The same by a native kernel, where there is one."""
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

    @cached_property
    def native(self) -> Native | None:
        """As `Coded.native`."""
        from hzcli.core import native

        return native.curves(self._numbers, self._codes)

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
    Here codes are converted all at once, and a pixel's three numbers are moved as one with the
    first of the next: half of what the conversions of OpenColorIO take.

    Args:
        table: (n, n, n, 3), indexed [r][g][b], n up to LARGEST_TABLE.
        interpolation: "tetrahedral" or "trilinear".
        shaped: (65536, 3), what each code becomes before the table, [0, 1] (cut off there).

    Raises:
        ImportError: OpenColorIO is not installed.
    """

    def __init__(
        self,
        table: np.ndarray,
        interpolation: Literal["tetrahedral", "trilinear"],
        shaped: np.ndarray | None = None,
    ) -> None:
        self._ocio = ocio = _opencolorio()
        self._given = table, interpolation, shaped
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
        codes, out = (x.reshape(len(x), -1) for x in _one_row(codes, out))
        for part, new in self._looked_up(codes):
            if not self._within:
                np.clip(new, 0, WHITE, out=new)
            np.copyto(out[part], new.reshape(out[part].shape), casting="unsafe")

    def colours(self, codes: np.ndarray) -> np.ndarray:
        """As `Coded.colours`."""
        out = np.empty(codes.shape, np.float32)
        for (_, part), new in self._looked_up(codes.reshape(1, -1)):
            np.subtract(new, 0.5, out=out.reshape(-1)[part])
        return out

    @cached_property
    def native(self) -> Native | None:
        """As `Coded.native`."""
        from hzcli.core import native

        return native.table(*self._given)

    def _looked_up(self, codes: np.ndarray) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
        """Codes (h, 3 w) part by part.

        Yields:
            Which part; its colours in codes and half a code more, (3 N,) float32.
        """
        threes, fours, images = self._work()
        lapped = np.ndarray(BLOCK, np.complex128, threes, strides=(12,))  # 16 bytes of 12
        moved = fours.view(np.complex128)[:, 0]
        for part in blocks(codes.shape[0], codes.shape[1], 3 * BLOCK):
            source = codes[part]
            count = source.size // 3
            numbers = threes[: 3 * count]
            np.copyto(numbers.reshape(source.shape), source)
            numbers *= np.float32(1 / WHITE)
            np.copyto(moved[:count], lapped[:count])
            # To describe memory takes as long as a thousand pixels: few sizes, described once.
            filled = min(BLOCK, -(-count // STEP) * STEP)
            if filled not in images:
                images[filled] = self._ocio.PackedImageDesc(fours[:filled], filled, 1, 4)
            self._processor.apply(images[filled])
            # From left to right: each puts right what the one before spilled.
            np.copyto(lapped[:count], moved[:count])
            yield part, numbers

    def _work(self) -> tuple[np.ndarray, np.ndarray, dict[int, Any]]:
        """Room for a block's numbers by threes and by fours, float32, and OpenColorIO's
        descriptions of the latter."""
        if not hasattr(self._own, "arrays"):
            threes, fours = np.zeros(3 * BLOCK + 1, np.float32), np.zeros((BLOCK, 4), np.float32)
            self._own.arrays = threes, fours, {}
        return self._own.arrays


def _one_row(codes: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same pixels (h, w, 3) as (1, h w, 3), where all of them lie side by side: then every
    block is full."""
    if codes.flags.c_contiguous and out.flags.c_contiguous:
        return codes.reshape(1, -1, 3), out.reshape(1, -1, 3)
    return codes, out


def ocio_version() -> str | None:
    """The version of OpenColorIO; None where it is not installed."""
    try:
        return str(_opencolorio().GetVersion())
    except ImportError:
        return None


def _opencolorio() -> Any:
    try:
        import PyOpenColorIO
    except ImportError as error:
        # What Ctrl-C breaks off while the library starts is told as an error of the import.
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise
    return PyOpenColorIO
