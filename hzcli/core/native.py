"""Looks by native kernels (lookups_llvm.py): when there is one, and what it is given.

Pictures of `LEAST` pixels or more are the kernels', wherever llvmlite is installed: what making one
takes, a fifth of a second, smaller pictures do not give back. A kernel is believed once it has
recoloured some pixels as float64 does; else a warning says so once, and OpenColorIO or numpy goes
on. No more than the picture's size is looked at: a picture has the same bytes by itself and among
others.

Shapes: n nodes a side; (h, w) pixels; T rows of a grid that a row of pixels lies between.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["tetrahedral", "trilinear", "curves", "maps", "curve maps", "planes"]

LEAST = 1 << 20
STRIP = 64  # columns whose curves, on two rows of a grid, fit into a core's nearest cache
SIDES = 2, 256  # nodes that the kernels take
WHITE = 65535
FINE = 30  # bits of a place behind a shaper, the cell's included
BOUND = 1.0  # code of 16 bits, by which a kernel may be off: half a code is rounding

Call = Callable[[int], None]


class _Made(NamedTuple):
    """A kernel, what it is told, by name, and which of that are real numbers; what to keep."""

    call: Call
    names: tuple[str, ...]
    floats: tuple[str, ...]
    kept: object


_made: dict[str, _Made | None] = {}
_deciding = threading.Lock()


class Native:
    """A recolouring by a kernel. Threads may share it.

    Args:
        made: the kernel. held: arrays by the names that it has for their addresses.
        told: numbers by name.
    """

    def __init__(self, made: _Made, held: dict[str, np.ndarray], **told: float) -> None:
        self._made, self._held, self._strip = made, held, int(told.pop("strip", 0))
        self._told = np.zeros(len(made.names), np.int64)
        self._tell(self._told, **told, **{n: array.ctypes.data for n, array in held.items()})

    def recolour(self, rows: np.ndarray, mask: np.ndarray | None, weight: float = 1.0) -> None:
        """Recolour rows of a picture, in place.

        Args:
            rows: (h, w, 3) uint16, pixels side by side in a row.
            mask: (h, w) uint8 or uint16, full scale inside; None: everywhere. Pixels that it
                leaves out keep their code.
            weight: share of the new colour in a pixel that the mask holds whole.

        Raises:
            ValueError: the arrays are others than these.
        """
        height, width = rows.shape[:2]
        sound = rows.dtype == np.uint16 and rows.dtype.isnative and rows.shape[2:] == (3,)
        if not sound or not rows.flags.writeable or (rows.size and rows.strides[1:] != (6, 2)):
            raise ValueError(f"not rows of pixels: {rows.dtype}, {rows.shape}, {rows.strides}")
        top, line, size = 1, 0, 0
        if mask is not None:
            if mask.shape != (height, width) or mask.dtype not in (np.uint8, np.uint16):
                raise ValueError(f"no mask for {rows.shape}: {mask.dtype}, {mask.shape}")
            if mask.strides[1] != mask.itemsize or not mask.dtype.isnative:
                mask = np.ascontiguousarray(mask, mask.dtype.newbyteorder("="))
            top, line, size = int(np.iinfo(mask.dtype).max), mask.strides[0], mask.itemsize
        told = self._told.copy()
        self._tell(
            told, rows=rows.ctypes.data, height=height, width=width, line=rows.strides[0],
            mask=0 if mask is None else mask.ctypes.data, mask_line=line, mask_bytes=size, top=top,
            whole=int(weight == 1), weight=weight, share=weight / top,
            strip=self._strip or max(1, width),
        )  # fmt: skip
        self._made.call(told.ctypes.data)

    def _tell(self, told: np.ndarray, **values: float) -> None:
        for name, value in values.items():
            place = self._made.names.index(name)
            if name in self._made.floats:
                told[place : place + 1].view(np.float32)[0] = value
            else:
                told[place] = value


def curves(values: np.ndarray, codes: np.ndarray) -> Native | None:
    """A table for every code and channel.

    Args:
        values: (3, 65536) float32, what becomes of each code, in codes, neither rounded nor held.
        codes: (3, 65536) uint16, the same, rounded and held.

    Returns:
        None where there is no kernel.
    """
    made = kernel("curves")
    return None if made is None else _curves(made, values, codes)


def table(nodes: np.ndarray, kind: Kind, shaped: np.ndarray | None = None) -> Native | None:
    """A table of colours.

    Args:
        nodes: (n, n, n, 3), indexed [r][g][b], 1 for white. kind: of interpolation.
        shaped: (65536, 3), what each code becomes before the table, [0, 1] (held there).

    Returns:
        None where there is no kernel, or none for so many nodes.
    """
    made = kernel(kind) if SIDES[0] <= len(nodes) <= SIDES[1] else None
    return None if made is None else _table(made, nodes, shaped)


def maps(
    kind: Kind, wide: np.ndarray, index: np.ndarray, shares: np.ndarray, **told: float
) -> Native:
    """What a grid says of places, for rows of just this width. There must be such a kernel.

    Args:
        kind: "maps": C = 12, what to multiply codes and 1 with, channels viewed as (3, 4), for
            codes and half a code more. "curve maps": of each channel two curves, one after the
            other, of `pieces` and `pieces_after` even pieces: the value at 0, the first slope, and
            what it grows by from piece to piece; the first from codes times `unit` to pieces of
            the second, that to codes and half a code more.
        wide: (rows of a grid, C, w) float32. index, shares: (T, h), which rows of the grid a row
            of pixels lies between, and what it takes of each; for curves T = 2.
    """
    made = kernel(kind)
    assert made is not None
    return _maps(made, wide, index, shares, **told)


def planes(colours: np.ndarray) -> Native:
    """Colours ready made, for rows of just this place. There must be such a kernel.

    Args:
        colours: (3, h, w) float32, 1 for white; of a row side by side.
    """
    made = kernel("planes")
    assert made is not None
    return _planes(made, colours)


def _planes(made: _Made, colours: np.ndarray) -> Native:
    plane, line, pixel = (stride // 4 for stride in colours.strides)
    if colours.dtype != np.float32 or len(colours) != 3 or (colours.size and pixel != 1):
        raise ValueError(f"not planes: {colours.dtype}, {colours.shape}, {colours.strides}")
    return Native(made, {"table": colours}, plane=plane, grid_line=line)


def _maps(
    made: _Made, wide: np.ndarray, index: np.ndarray, shares: np.ndarray, **told: float
) -> Native:
    rows, channels, width = wide.shape
    if index.min(initial=0) < 0 or index.max(initial=0) >= rows:
        raise ValueError(f"rows {index.min()} to {index.max()} of {rows}")
    # Sixteen pixels are read at once: the last of a row with what is behind it.
    strip = STRIP if "pieces" in told else width
    strips = -(-width // strip) if strip else 0
    flat = np.zeros(strips * rows * channels * strip + 16, np.float32)
    for n in range(strips):
        part = wide[:, :, n * strip : (n + 1) * strip]
        room = flat[n * strip * rows * channels :][: strip * rows * channels]
        room.reshape(rows, channels, strip)[:, :, : part.shape[2]] = part
    held: dict[str, np.ndarray] = {
        "table": flat,
        "index": np.ascontiguousarray(index.T, np.int64),
        "shares": np.ascontiguousarray(shares.T, np.float32),
    }
    told |= {"taps": len(index), "plane": strip, "grid_line": channels * strip}
    return Native(made, held, strip=strip, grid_rows=rows * channels, **told)


def _curves(made: _Made, values: np.ndarray, codes: np.ndarray) -> Native:
    numbers = np.ascontiguousarray(values + np.float32(0.5), np.float32)  # cutting off is rounding
    return Native(made, {"table": np.ascontiguousarray(codes, np.uint16), "numbers": numbers})


def _table(made: _Made, nodes: np.ndarray, shaped: np.ndarray | None) -> Native:
    n = len(nodes)
    # Four numbers to a node, which begins where a register's worth of memory does.
    room = np.zeros(4 * n**3 + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    four = room[start : start + 4 * n**3].reshape(-1, 4)
    four[:, :3] = nodes.reshape(-1, 3) + 0.5 / WHITE  # cutting off is rounding then
    held, told = {"table": four}, {"bits": 0, "unit": 1.0}
    if shaped is not None:
        bits = FINE - (n - 2).bit_length()
        places = np.clip(np.nan_to_num(shaped.T), 0, 1) * ((n - 1) << bits)
        held["places"] = np.ascontiguousarray(np.rint(places), np.int32)
        told = {"bits": bits, "unit": WHITE / (1 << bits)}
    steps = {"step_r": 16 * n * n, "step_g": 16 * n, "step_b": 16}
    return Native(made, held, steps=n - 1, last=n - 2, **steps, **told)


def kernel(kind: Kind) -> _Made | None:
    """The kernel, made when it is first asked for; None where there is none to be believed."""
    with _deciding:
        if kind not in _made:
            _made[kind] = _believed(kind)
        return _made[kind]


def _believed(kind: Kind) -> _Made | None:
    try:
        from hzcli.core import looks_llvm, lookups_llvm

        call, kept = lookups_llvm.made(kind)
    except ImportError:
        return None  # it is not installed, and need not be
    except Exception as problem:  # whatever llvmlite may raise, or LLVM on some processor
        distrust("looks are applied without their", problem)
        return None
    made = _Made(call, looks_llvm.NAMES, looks_llvm.FLOATS, kept)
    error = _error(made, kind) if sys.byteorder == "little" else np.inf
    if error <= BOUND:
        return made
    distrust("looks are applied without their", f"it is off by {error:.1f} codes of 16 bits")
    return None


def distrust(what: str, why: Exception | str) -> None:
    """Warn that something is done "without its" native kernel: `what` ends so."""
    reason = (str(why).strip() or type(why).__name__).splitlines()[0]
    warnings.warn(f"{what} native kernel, more slowly: {reason}", RuntimeWarning, stacklevel=3)


def _error(made: _Made, kind: Kind) -> float:
    """How far a kernel is from float64 on some pixels, in codes."""
    from hzcli.core.tetra import interpolate

    chance = np.random.default_rng(0)
    codes = chance.integers(0, WHITE + 1, (3, 37, 3)).astype(np.uint16)
    codes[0, :2], codes[0, 2:9, 1] = [[0], [WHITE]], codes[0, 2:9, 2]
    mask = (chance.integers(-3, 6, (3, 37)).clip(0, 2) * 32767.5).astype(np.uint16)
    if kind == "maps":
        wide = (chance.random((3, 12, 37)) - 0.3).astype(np.float32)
        index, shares = np.array([[0, 1, 1], [1, 2, 2]]), np.array([[0.3, 1, 0.5], [0.7, 0, 0.5]])
        native = _maps(made, wide, index, shares)
        mixed = (shares[..., None, None] * wide[index]).sum(0).reshape(3, 3, 4, 37)
        new = np.einsum("ycnx,yxn->yxc", mixed[:, :, :3], codes) + mixed[:, :, 3].swapaxes(1, 2)
        new -= 0.5
    elif kind == "curve maps":
        wide = (chance.random((3, 3 * 9, 37)) - 0.2).astype(np.float32)
        # First curves leave what second ones know on both sides.
        wide.reshape(3, 3, 9, 37)[:, :, :4] *= 4
        wide.reshape(3, 3, 9, 37)[:, :, 4:] *= WHITE / 4
        index, shares = np.array([[0, 1, 1], [1, 2, 2]]), np.array([[0.3, 1, 0.5], [0.7, 0, 0.5]])
        native = _maps(made, wide, index, shares, pieces=3, pieces_after=4, unit=3 / WHITE)
        mixed = (shares[..., None, None] * wide[index]).sum(0).reshape(3, 3, 9, 37)
        new = np.empty(codes.shape)
        for y, x, c in np.ndindex(codes.shape):
            parts = np.split(mixed[y, c, :, x], [4])
            first, second = (np.cumsum([one[0], *np.cumsum(one[1:])]) for one in parts)
            between = np.interp(3 / WHITE * float(codes[y, x, c]), np.arange(4), first)
            new[y, x, c] = np.interp(between, np.arange(5), second) - 0.5
    elif kind == "planes":
        colours = chance.random((3, 3, 37)) * 1.4 - 0.2
        native = _planes(made, colours.astype(np.float32))
        new = WHITE * colours.transpose(1, 2, 0)
    elif kind == "curves":
        values = chance.random((3, WHITE + 1)) * 80000 - 7000
        short = (values + 0.5).clip(0, WHITE).astype(np.uint16)
        native = _curves(made, values.astype(np.float32), short)
        new = np.stack([values[c][codes[..., c]] for c in range(3)], -1)
    else:
        nodes = chance.random((4, 4, 4, 3)) * 1.2 - 0.1
        native = _table(made, nodes, None)
        new = WHITE * interpolate(nodes, codes / WHITE, kind)
    share = (0.75 * mask / WHITE)[..., None]
    rows = codes.copy()
    native.recolour(rows, mask, 0.75)
    return float(np.abs(rows - (codes + share * (new.clip(0, WHITE) - codes))).max())
