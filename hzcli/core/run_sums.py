"""Sums of codes over rectangles of pixels; by a native kernel, a fifth of what numpy takes.

The sums are whole numbers, the same either way: so the kernel is made once there has been enough
to sum. It is believed once it has summed some codes as numpy does; where it has not, numpy goes on,
and a warning says so once. Where llvmlite is not installed, there is none.

Shapes: (h, w) pixels of c channels.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Callable

import numpy as np

from hzcli.core.native import distrust

# Pixels that a process sums before it makes the kernel: more than most single pictures have.
BEFORE = 1 << 25
MOST = 1 << 32  # below which a sum must be, for the kernel ..
CHANNELS = 4  # .. and how many channels it knows
NAMES = (
    "codes", "step", "size", "numbers", "channels", "borders", "runs", "places", "columns", "line",
    "out",
)  # fmt: skip

Call = Callable[[int], None]

_made: list[tuple[Call, object] | None] = []  # the kernel, and what to keep; None: there is none
_met = 0  # pixels, until then
_deciding = threading.Lock()


def run_sums(codes: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """Sums over all rectangles between some borders.

    Args:
        codes: (h, w, c) unsigned.
        down: (rows + 1,) the first row of each run of rows, rising, and h. across: (columns + 1,)
            the same of columns, and w.

    Returns:
        (rows, columns, c) unsigned, of as many bits as the sums may need.
    """
    size, channels = codes.itemsize, codes.shape[2]
    longest = int(np.diff(down).max()) * int(np.diff(across).max())
    known = codes.dtype in (np.uint8, np.uint16) and codes.dtype.isnative and channels <= CHANNELS
    side_by_side = codes.strides[1:] == (channels * size, size)
    if known and side_by_side and longest * int(np.iinfo(codes.dtype).max) < MOST:
        call = _kernel(codes.shape[0] * codes.shape[1])
        if call is not None:
            return _by_kernel(call, codes, down, across)
    return _by_numpy(codes, down, across)


def _by_numpy(codes: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    most = int(np.iinfo(codes.dtype).max) * int(np.diff(down).max())
    lines = codes
    if len(down) - 1 < len(codes):
        # The narrowest that holds the largest sum: what numpy converts to is most of its work.
        lines = np.empty((len(down) - 1, *codes.shape[1:]), np.min_scalar_type(most))
        for line, (start, stop) in zip(lines, itertools.pairwise(down), strict=True):
            np.add.reduce(codes[start:stop], axis=0, dtype=lines.dtype, out=line)
    wide = np.uint32 if most * int(np.diff(across).max()) < MOST else np.uint64
    return np.add.reduceat(lines, across[:-1], axis=1, dtype=wide)


def _by_kernel(call: Call, codes: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    width, channels = codes.shape[1:]
    borders = np.ascontiguousarray(down, np.int64)
    places = np.ascontiguousarray(across * channels, np.int64)
    if (borders[0], borders[-1], places[0], places[-1]) != (0, len(codes), 0, width * channels):
        raise ValueError(f"runs of {borders[-1]} rows, {places[-1]} numbers: {codes.shape}")
    shape = len(down) - 1, len(across) - 1, channels
    # As many sums as there may be channels are read and written at once.
    line, out = (np.empty(n + CHANNELS, np.uint32) for n in (width * channels, int(np.prod(shape))))
    told = np.array(
        [codes.ctypes.data, codes.strides[0], codes.itemsize, width * channels, channels,
         borders.ctypes.data, shape[0], places.ctypes.data, shape[1], line.ctypes.data,
         out.ctypes.data], np.int64,
    )  # fmt: skip
    call(told.ctypes.data)
    return out[:-CHANNELS].reshape(shape)


def _kernel(pixels: int) -> Call | None:
    """The kernel, for so many more pixels; None where there is none yet, or none to be believed."""
    global _met
    with _deciding:
        if not _made:
            _met += pixels
            if _met <= BEFORE:
                return None
            _made.append(_believed())
        return None if _made[0] is None else _made[0][0]


def _believed() -> tuple[Call, object] | None:
    if sys.byteorder != "little":
        return None
    try:
        made = _written()
    except ImportError:
        return None
    except Exception as problem:  # whatever llvmlite may raise, or LLVM on some processor
        distrust("pictures are read without their", problem)
        return None
    chance = np.random.default_rng(0)
    borders = np.array([0, 3, 4, 9]), np.array([0, 1, 40, 90])
    for kind, channels in ((np.uint8, 3), (np.uint16, 1)):
        codes = chance.integers(0, np.iinfo(kind).max + 1, (9, 90, channels)).astype(kind)
        sums = _by_kernel(made[0], codes, *borders)
        if not np.array_equal(sums, _by_numpy(codes, *borders)):
            distrust("pictures are read without their", "its sums are wrong")
            return None
    return made


def _written() -> tuple[Call, object]:
    """A few registers go down a run of rows, strip after strip; then runs of columns are summed."""
    from llvmlite import ir

    from hzcli.core import llvm
    from hzcli.core.llvm import BYTE, CODE, LANE, WHOLE, Kernel

    k = Kernel(ir.Module("run_sums"), "run_sums", [WHOLE.as_pointer()])
    told = {name: k.arguments[0][n].get(WHOLE) for n, name in enumerate(NAMES)}
    rows, borders, places, line, out = (
        llvm.Value(k, k.build.inttoptr(told[name].value, kind.as_pointer()))
        for name, kind in (
            ("codes", BYTE), ("borders", WHOLE), ("places", WHOLE), ("line", LANE), ("out", LANE),
        )
    )  # fmt: skip
    strip = 4 * llvm.LANES
    whole = k.whole(0) + told["numbers"] / strip * strip
    with k.loop(told["runs"]) as run:
        first = borders[run].get(WHOLE)
        height = borders[run + 1].get(WHOLE) - first
        for kind in (BYTE, CODE):
            size = kind.width // 8
            for count, begin, end in ((strip, k.whole(0), whole), (1, whole, told["numbers"])):
                with k.when(told["size"].equals(size)), k.loop(end - begin, count) as x:
                    here = rows[first * told["step"] + (begin + x) * size]
                    total = llvm.Variable(k, k.zero_bytes(count).wide(LANE))
                    with k.loop(height) as y:
                        codes = here[y * told["step"]].get(llvm.vector(count, kind))
                        total.set(total.get() + codes.wide(LANE))
                    line[begin + x].put(total.get())
        with k.loop(told["columns"]) as i:
            start = places[i].get(WHOLE)
            total = llvm.Variable(k, k.zero_bytes(CHANNELS).wide(LANE))
            with k.loop(places[i + 1].get(WHOLE) - start, told["channels"]) as x:
                total.set(total.get() + line[start + x].get(llvm.vector(CHANNELS, LANE)))
            out[(run * told["columns"] + i) * told["channels"]].put(total.get())
    return llvm.compiled(k.done().module, "run_sums")
